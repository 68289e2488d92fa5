//! Some processes of one machine against some of another, all at once.

use super::state::State;

/// How many processes an exchange moves at most.
pub(super) const EXCHANGED_MAX: usize = 5;

impl State<'_> {
    /// Lets `some`, all of them on one machine, change places with `others`, all on another, if that is
    /// allowed and costs at most `limit` more. Says whether it did.
    ///
    /// One after the other they must keep what their services ask for; only capacities are looked at for
    /// all of them together.
    pub(super) fn exchange(&mut self, some: &[u32], others: &[u32], to: u32, limit: i64) -> bool {
        let from = self.at[some[0] as usize];
        let ways = [(some, from, to), (others, to, from)];
        let Some(by) = self.without_services(ways) else {
            return false;
        };
        let count = some.len() + others.len();
        if by - count as i64 * self.model.weights.service_move > limit {
            return false;
        }
        let before = self.cost;
        let moves = ways.map(|(all, from, to)| all.iter().map(move |&p| (p as usize, from, to)));
        let moves = moves.into_iter().flatten();
        let mut done = 0;
        for (p, from, to) in moves.clone() {
            let service = self.model.service[p] as usize;
            if !self.service_allows(service, from, to) || self.meets_own(service, to) {
                break;
            }
            self.relocate(p, to);
            done += 1;
        }
        self.reprice(from as usize);
        self.reprice(to as usize);
        if done == count && self.cost - before <= limit {
            return true;
        }
        for (p, from, _) in moves.take(done) {
            self.relocate(p, from);
        }
        self.reprice(from as usize);
        self.reprice(to as usize);
        false
    }

    /// What changes, the services' share left out; `None` if it does not fit or too many would have moved.
    fn without_services(&self, ways: [(&[u32], u32, u32); 2]) -> Option<i64> {
        let model = self.model;
        let [(some, a, b), (others, ..)] = ways;
        let (room_a, room_b) = (self.room_of(a as usize), self.room_of(b as usize));
        let (free_a, free_b) = (self.free_of(a as usize), self.free_of(b as usize));
        for r in 0..model.resources {
            let sum = |all: &[u32], on: u32| {
                let enters = all.iter().map(|&p| model.enters(p as usize, on)[r]);
                enters.sum::<i64>()
            };
            if sum(some, b) - sum(others, b) > free_b[r]
                || sum(others, a) - sum(some, a) > free_a[r]
            {
                return None;
            }
        }
        let leaves = |r: usize| {
            let sum = |all: &[u32]| all.iter().map(|&p| model.needs(p as usize)[r]).sum::<i64>();
            sum(some) - sum(others)
        };
        let mut by = model.price(a as usize, |r| room_a[r] + leaves(r))
            + model.price(b as usize, |r| room_b[r] - leaves(r))
            - self.price_of(a)
            - self.price_of(b);
        let mut moved = i64::from(self.moved);
        for (all, _, to) in ways {
            for &p in all {
                by += model.move_price(p as usize, to) - self.paid(p as usize);
                moved += self.moves(p as usize, to);
            }
        }
        (moved <= i64::from(model.moves_max)).then_some(by)
    }
}
