//! What the scores that look beyond the row say of a class of rows.

use super::counted::Counted;
use super::fence::Fence;
use super::field::Scored;
use super::{Blend, Part, Source};
use crate::place::plugin::{Scale, Score};
use crate::place::score::pod_affinity::place_between;
use crate::place::score::topology_spread::{addend, log_of, place_from, rounded};
use crate::snapshot::relations::{NOWHERE, Tally};
use crate::snapshot::{Ledger, NodeIx};

/// The level of a row that lacks the label.
const ABSENT: i64 = i64::MIN;

/// Classes of rows: the cell that they are in and their levels, which together are a grade.
#[derive(Debug)]
pub(super) struct Classes {
    /// How many numbers a grade has.
    width: usize,
    grades: Vec<i64>,
    /// How many rows are in the running.
    pub(super) rows: Vec<u32>,
    /// The weighted sum of the scores.
    pub(super) bonus: Vec<u64>,
}

impl Classes {
    /// None yet, with so many levels.
    pub(super) fn new(levels: usize) -> Self {
        Self {
            width: levels + 1,
            grades: Vec::new(),
            rows: Vec::new(),
            bonus: Vec::new(),
        }
    }

    /// Makes a class, or an empty one another.
    pub(super) fn set(&mut self, class: usize, grade: &[i64]) {
        if class == self.rows.len() {
            self.rows.push(0);
            self.bonus.push(0);
            self.grades.extend_from_slice(grade);
        } else {
            self.grades[class * self.width..][..self.width].copy_from_slice(grade);
        }
    }

    pub(super) fn whole_grade(&self, class: usize) -> &[i64] {
        &self.grades[class * self.width..][..self.width]
    }

    /// A class's cell and levels.
    pub(super) fn grade(&self, class: usize) -> (usize, &[i64]) {
        let grade = self.whole_grade(class);
        (grade[0] as usize, &grade[1..])
    }
}

/// The scores, and what each row brings to them.
#[derive(Debug)]
pub(super) struct Grades {
    scaled: Vec<(Scale, u64)>,
    scores: Vec<Blended>,
    /// By row, `width` of each: its raw scores, then what is counted for it where domains are many.
    levels: Vec<i64>,
    width: usize,
    /// Whether the classes may have other rows than when domains were last counted.
    moved: bool,
    live: Vec<Live>,
}

/// A class with rows in the running, and its raw score.
#[derive(Debug)]
struct Live {
    class: usize,
    cell: usize,
    /// Whether it takes part in the score that is looked at.
    ranked: bool,
    sum: i64,
}

#[derive(Debug)]
struct Blended {
    blend: Blend,
    weight: u64,
    parts: Vec<Counting>,
}

/// A part of a score.
#[derive(Debug)]
struct Counting {
    part: Part,
    over: Over,
    /// What was counted last, by domain or by row.
    seen: Tally,
    /// How many domains there were last, and what that weighs.
    log: (u64, u64),
    /// With many domains: how many of them have rows in the running.
    peopled: u64,
}

/// Where it is read that a class has how many.
#[derive(Debug)]
enum Over {
    /// By its cell's domain: which of the keys.
    Cells(usize),
    /// By a level. All parts of a [`Blend::Company`] have one in common, their sum.
    Level(usize),
}

impl Grades {
    pub(super) fn new(rows: usize, scored: Scored, fence: &Fence, ledger: &Ledger) -> Self {
        let mut width = scored.scaled.len();
        let mut scores = Vec::with_capacity(scored.by_domain.len());
        for (score, weight) in scored.by_domain {
            let mut common = None;
            let mut parts = Vec::with_capacity(score.parts.len());
            for part in score.parts {
                let by_row = matches!(part.source, Source::SpreadHere(..));
                let over = match fence.division().key(&part.domains).filter(|_| !by_row) {
                    Some(key) => Over::Cells(key),
                    None => {
                        let level = match score.blend {
                            Blend::Spread { .. } => None,
                            Blend::Company => common,
                        };
                        let level = level.unwrap_or_else(|| {
                            width += 1;
                            width - 1
                        });
                        common = Some(level);
                        Over::Level(level)
                    }
                };
                let counted = Counted::of(ledger, &part.domains, part.source);
                parts.push(Counting {
                    seen: counted.map_or_else(Tally::default, |counted| counted.pods().clone()),
                    part,
                    over,
                    log: (0, log_of(0)),
                    peopled: 0,
                });
            }
            scores.push(Blended {
                blend: score.blend,
                weight,
                parts,
            });
        }
        let mut grades = Self {
            levels: vec![0; rows * width],
            scaled: scored.scaled,
            scores,
            width,
            moved: true,
            live: Vec::new(),
        };
        if grades.width > grades.scaled.len() {
            (0..rows).for_each(|row| grades.level(row));
        }
        grades
    }

    /// How many levels a row has.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    pub(super) fn levels(&self, row: usize) -> &[i64] {
        &self.levels[row * self.width..][..self.width]
    }

    pub(super) fn set_raw(&mut self, row: usize, nth: usize, raw: Score) {
        self.levels[row * self.width + nth] = i64::from(raw);
    }

    /// A row came into the running or left it, or changed its class; or all of a cell did.
    pub(super) fn population_moved(&mut self) {
        self.moved = true;
    }

    /// Takes in what is counted now that pods came to or left the rows in `changed`. The rows whose
    /// levels that moves; `None` if something is no longer counted.
    pub(super) fn follow(&mut self, ledger: &Ledger, changed: &[NodeIx]) -> Option<Vec<usize>> {
        let mut rows: Vec<usize> = Vec::new();
        for counting in self.scores.iter_mut().flat_map(|score| &mut score.parts) {
            let Part {
                domains, source, ..
            } = &counting.part;
            let counted = Counted::of(ledger, domains, *source)?;
            let pods = counted.pods();
            for node in changed {
                let Some(domain) = domains.of(*node) else {
                    continue;
                };
                let at = match source {
                    Source::SpreadHere(..) => node.row(),
                    _ => domain,
                };
                if !counting.seen.copy(at, pods) {
                    continue;
                }
                match (&counting.over, source) {
                    (Over::Cells(_), _) => {}
                    (Over::Level(_), Source::SpreadHere(..)) => rows.push(node.row()),
                    (Over::Level(_), _) => {
                        let rows_there = domains.members().rows(domain).iter();
                        rows.extend(rows_there.map(|&row| row as usize));
                    }
                }
            }
        }
        for &row in &rows {
            self.level(row);
        }
        Some(rows)
    }

    /// Finds a row's levels from what was counted.
    fn level(&mut self, row: usize) {
        let levels = &mut self.levels[row * self.width..][..self.width];
        levels[self.scaled.len()..].fill(0);
        for score in &self.scores {
            for counting in &score.parts {
                let Over::Level(level) = counting.over else {
                    continue;
                };
                let domain = counting.part.domains.of_rows()[row];
                let counted = match (domain, counting.part.source) {
                    (NOWHERE, _) => None,
                    (_, Source::SpreadHere(..)) => Some(counting.seen.get(row)),
                    _ => Some(counting.seen.get(domain as usize)),
                };
                let level = &mut levels[level];
                match (score.blend, counted) {
                    (Blend::Spread { .. }, counted) => *level = counted.unwrap_or(ABSENT),
                    (Blend::Company, Some(counted)) => {
                        *level = level.saturating_add(counting.part.weight.saturating_mul(counted));
                    }
                    (Blend::Company, None) => {}
                }
            }
        }
    }

    /// Finds the weighted sum of the scores for each class in an open cell. `rows` are the classes
    /// of the rows, if they are in the running.
    pub(super) fn score(
        &mut self,
        classes: &mut Classes,
        fence: &Fence,
        rows: impl Iterator<Item = Option<u32>> + Clone,
    ) {
        self.live.clear();
        for (class, &rows) in classes.rows.iter().enumerate() {
            let (cell, _) = classes.grade(class);
            if rows > 0 && fence.open()[cell] {
                classes.bonus[class] = 0;
                self.live.push(Live {
                    class,
                    cell,
                    ranked: true,
                    sum: 0,
                });
            }
        }
        for (nth, (scale, weight)) in self.scaled.iter().enumerate() {
            let raw = |live: &Live, classes: &Classes| classes.grade(live.class).1[nth] as Score;
            let all = self.live.iter().map(|live| raw(live, classes));
            let max = all.max().unwrap_or(0);
            for live in &self.live {
                let score = scale.apply(raw(live, classes), max);
                classes.bonus[live.class] += weight * u64::from(score);
            }
        }
        let moved = std::mem::take(&mut self.moved);
        for score in &mut self.scores {
            match score.blend {
                Blend::Spread { by_default } => {
                    let live = &mut self.live;
                    score.spread(live, classes, fence, rows.clone(), moved, by_default);
                }
                Blend::Company => score.company(&mut self.live, classes, fence),
            }
        }
    }
}

impl Blended {
    /// See [`PodTopologySpread`](crate::place::score::PodTopologySpread).
    fn spread(
        &mut self,
        live: &mut [Live],
        classes: &mut Classes,
        fence: &Fence,
        rows: impl Iterator<Item = Option<u32>> + Clone,
        moved: bool,
        by_default: bool,
    ) {
        for one in live.iter_mut() {
            let mut parts = self.parts.iter();
            one.ranked =
                by_default || parts.all(|counting| counting.pods(one, classes, fence).is_some());
        }
        let candidates = || live.iter().filter(|one| one.ranked);
        for counting in &mut self.parts {
            let domains = match (&counting.over, counting.part.source) {
                (&Over::Cells(key), _) => {
                    // They are 64 at most, and all that are in none count as one more.
                    let bit = |one: &Live| match fence.division().domain(one.cell, key) {
                        NOWHERE => 1u128 << 64,
                        domain => 1 << domain,
                    };
                    let seen = candidates().fold(0, |seen, one| seen | bit(one));
                    u64::from(seen.count_ones())
                }
                (Over::Level(_), Source::SpreadHere(..)) => {
                    let of = |one: &Live| u64::from(classes.rows[one.class]);
                    candidates().map(of).sum()
                }
                (Over::Level(_), _) => {
                    if moved {
                        let mut ranked = vec![false; classes.rows.len()];
                        candidates().for_each(|one| ranked[one.class] = true);
                        counting.count_domains(rows.clone(), &ranked);
                    }
                    counting.peopled
                }
            };
            if counting.log.0 != domains {
                counting.log = (domains, log_of(domains));
            }
        }
        let (mut least, mut most) = (u64::MAX, 0);
        for one in live.iter_mut().filter(|one| one.ranked) {
            let mut sum = 0;
            for counting in &self.parts {
                if let Some(pods) = counting.pods(one, classes, fence) {
                    sum += addend(pods, counting.log.1, counting.part.weight as u32);
                }
            }
            let sum = rounded(sum);
            (least, most) = (least.min(sum), most.max(sum));
            one.sum = sum as i64;
        }
        for one in live.iter().filter(|one| one.ranked) {
            let score = place_from(one.sum as u64, least, most);
            classes.bonus[one.class] += self.weight * u64::from(score);
        }
    }

    /// See [`InterPodAffinity`](crate::place::score::InterPodAffinity).
    fn company(&self, live: &mut [Live], classes: &mut Classes, fence: &Fence) {
        let (mut least, mut most) = (i64::MAX, i64::MIN);
        for one in live.iter_mut() {
            let mut in_common = None;
            one.sum = 0;
            for counting in &self.parts {
                match counting.over {
                    Over::Cells(_) => {
                        let pods = counting.pods(one, classes, fence).unwrap_or(0);
                        let counts = counting.part.weight.saturating_mul(pods);
                        one.sum = one.sum.saturating_add(counts);
                    }
                    Over::Level(level) => in_common = Some(level),
                }
            }
            if let Some(level) = in_common {
                one.sum = one.sum.saturating_add(classes.grade(one.class).1[level]);
            }
            (least, most) = (least.min(one.sum), most.max(one.sum));
        }
        for one in live.iter() {
            let score = place_between(one.sum, least, most);
            classes.bonus[one.class] += self.weight * u64::from(score);
        }
    }
}

impl Counting {
    /// How many count for the rows of a class; `None` if they lack the label.
    fn pods(&self, one: &Live, classes: &Classes, fence: &Fence) -> Option<i64> {
        match self.over {
            Over::Cells(key) => match fence.division().domain(one.cell, key) {
                NOWHERE => None,
                domain => Some(self.seen.get(domain as usize)),
            },
            Over::Level(level) => {
                Some(classes.grade(one.class).1[level]).filter(|&level| level != ABSENT)
            }
        }
    }

    /// Counts the domains that have rows of `ranked` classes; rows in no domain count as one more.
    fn count_domains(&mut self, rows: impl Iterator<Item = Option<u32>>, ranked: &[bool]) {
        let domains = &self.part.domains;
        let nowhere = domains.len();
        let mut seen = vec![false; nowhere + 1];
        self.peopled = 0;
        for (&domain, class) in domains.of_rows().iter().zip(rows) {
            if class.is_some_and(|class| ranked[class as usize]) {
                let domain = (domain as usize).min(nowhere);
                let first = !std::mem::replace(&mut seen[domain], true);
                self.peopled += u64::from(first);
            }
        }
    }
}
