//! look() over a tree.
