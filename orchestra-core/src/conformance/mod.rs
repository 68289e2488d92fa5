//! One suite per port, written from the contract on the trait.
