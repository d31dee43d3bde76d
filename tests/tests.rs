//! Every promise of fosse, one file a verb or promise.

mod process;
