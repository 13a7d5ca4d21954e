//! bptt
#![forbid(unsafe_code)]
