//! Shared helpers of the whole-system tests.

pub mod commits;
pub mod facts;

/// The blocks of the guide to ports, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../docs/ports.md")]
pub struct PortsGuide;

/// The blocks of the guide to schedulers, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../docs/scheduler.md")]
pub struct SchedulerGuide;

/// The block of the page on placement rules, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../docs/placement.md")]
pub struct PlacementRules;

/// The block of the page on the queue, run.
#[cfg(doctest)]
#[doc = include_str!("../../docs/queue.md")]
pub struct QueuePage;

/// The block of the page on packing, run.
#[cfg(doctest)]
#[doc = include_str!("../../docs/packing.md")]
pub struct PackingPage;

/// The block of the page on questions, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../docs/what_if.md")]
pub struct Questions;

/// The block of the guide to simulations, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../docs/simulation.md")]
pub struct SimulationGuide;

/// The block of the README, compiled.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
