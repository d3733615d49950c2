//! `fim-windows-etw replay`, from the bytes of a trace to the events that are printed.

mod command;
mod data;
mod decoding;
mod fuzz_seeds;
mod lifecycles;
mod recorded;
mod scenario;
mod scenarios;
mod traces;
mod who;
mod writer;
