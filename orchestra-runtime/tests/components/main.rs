//! Whole orchestras on simulated drivers, in virtual time: one behaviour a test.
#![allow(clippy::unwrap_used)]

mod agent;
mod cluster;
mod deployments;
mod embedding;
mod garbage;
mod once;
mod preemption;
mod quotas;
mod services;
mod waiting;
mod world;
