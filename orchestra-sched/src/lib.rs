//! Every decision of an orchestrator, as a pure function: no clock, no chance but what is handed
//! in, no I/O, no async, no hash order.
//!
//! * [`snapshot`], [`fits`], [`place`], [`explain`]: where pods go, and why.
//! * [`rollout`]: how a new revision replaces an old one.
//! * [`health`], [`budget`]: what is well, when to try again, what can be spared.
//! * [`fixture`]: clusters written as a few lines of text, for tests.
//! * [`order`]: what starts before what. [`balance`]: who answers.

pub mod balance;
pub mod budget;
pub mod explain;
pub mod fits;
pub mod fixture;
pub mod health;
pub mod order;
pub mod place;
pub mod rng;
pub mod rollout;
pub mod snapshot;
