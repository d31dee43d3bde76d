//! Every promise of fosse, one file a verb or promise.

mod layers;
mod process;
mod records;
mod seeds;
