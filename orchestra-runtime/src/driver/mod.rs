//! Drivers that come with the runtime.
//!
//! * [`TaskDriver`](task::TaskDriver): async functions of the app, supervised like processes.
//! * [`ProcessDriver`](process::ProcessDriver): processes of the operating system.
//! * [`SimDriver`](sim::SimDriver): scripted workloads in virtual time.
//!
//! All three keep their workloads in one kind of table, which holds the contract's rules of
//! admission: at most one attempt at a time, none twice, none older than the newest.

#[cfg(test)]
mod conformance;
mod ring;
mod table;

#[cfg(unix)]
pub mod process;
pub mod sim;
pub mod task;
