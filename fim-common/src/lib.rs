//! What every fim agent shares: the event type and the pipeline behind the collectors.
//!
//! `kernel -> decode -> resolve => Operation => policy => fold -> hash + diff => journal`
//!
//! A [`collector::Collector`] (Linux bpf, Linux fanotify, Windows ETW, replay) yields resolved
//! [`operation::Operation`]s; nothing after that seam knows the operating system, except
//! [`object`], the one place that reads an object's state from disk, and `platform`, which is about
//! the agent's own files.
//!
//! Without the `std` feature only [`record`] is built: the bytes that the eBPF programs write and
//! user space decodes.
#![cfg_attr(not(feature = "std"), no_std)]
#![forbid(unsafe_code)]

pub mod record;

#[cfg(feature = "std")]
pub mod baseline;
#[cfg(feature = "std")]
pub mod collector;
#[cfg(feature = "std")]
pub mod config;
#[cfg(feature = "std")]
pub mod content;
#[cfg(feature = "std")]
pub mod diff;
#[cfg(feature = "std")]
mod durable;
#[cfg(feature = "std")]
pub mod event;
#[cfg(feature = "std")]
pub mod hash;
#[cfg(feature = "std")]
pub mod ignored;
#[cfg(feature = "std")]
pub mod journal;
#[cfg(feature = "std")]
pub mod ledger;
#[cfg(feature = "std")]
pub mod loss;
#[cfg(feature = "std")]
pub mod metrics;
#[cfg(feature = "std")]
pub mod object;
#[cfg(feature = "std")]
pub mod operation;
#[cfg(feature = "std")]
pub mod own;
#[cfg(feature = "std")]
pub mod packages;
#[cfg(feature = "std")]
pub mod pipeline;
#[cfg(feature = "std")]
mod platform;
#[cfg(feature = "std")]
pub mod policy;
#[cfg(feature = "std")]
pub mod registry;
#[cfg(feature = "std")]
pub mod report;
#[cfg(feature = "std")]
pub mod scan;
#[cfg(feature = "std")]
pub mod state;
#[cfg(feature = "std")]
pub mod time;
