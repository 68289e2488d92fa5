//! The file formats of the ROADEF/EURO challenge 2012.

use std::error::Error;
use std::fmt;

use orchestra_sched::rebalance::{Balance, Machine, Problem, Process, Resource, Service, Weights};

/// The most of anything that a file may announce, so that a wrong number fails early.
const COUNT_MAX: i64 = 10_000_000;

/// A word in a file that should be another.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Malformed {
    line: usize,
    word: usize,
    found: String,
    wanted: String,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            line,
            word,
            found,
            wanted,
        } = self;
        write!(
            f,
            "line {line}, word {word}: {found}, where {wanted} should be"
        )
    }
}

impl Error for Malformed {}

/// The numbers of a file, and where they stand.
struct Words<'a> {
    words: Box<dyn Iterator<Item = (usize, usize, &'a str)> + 'a>,
    lines: usize,
}

impl<'a> Words<'a> {
    fn of(text: &'a str) -> Self {
        let words = text.lines().enumerate().flat_map(|(line, text)| {
            (text.split_whitespace().enumerate())
                .map(move |(word, text)| (line + 1, word + 1, text))
        });
        Self {
            words: Box::new(words),
            lines: text.lines().count(),
        }
    }

    /// The next number, which is what `wanted` says.
    fn number(&mut self, wanted: impl fmt::Display, max: i64) -> Result<i64, Malformed> {
        let Some((line, word, text)) = self.words.next() else {
            return Err(Malformed {
                line: self.lines.max(1),
                word: 0,
                found: "the file ends".into(),
                wanted: wanted.to_string(),
            });
        };
        match text.parse::<i64>() {
            Ok(number) if (0..=max).contains(&number) => Ok(number),
            _ => Err(Malformed {
                line,
                word,
                found: format!("{text:?}"),
                wanted: format!("{wanted} (a whole number from 0 to {max})"),
            }),
        }
    }

    fn any(&mut self, wanted: impl fmt::Display) -> Result<i64, Malformed> {
        self.number(wanted, i64::MAX)
    }

    fn count(&mut self, wanted: impl fmt::Display) -> Result<usize, Malformed> {
        Ok(self.number(wanted, COUNT_MAX)? as usize)
    }

    fn name(&mut self, wanted: impl fmt::Display) -> Result<u32, Malformed> {
        Ok(self.number(wanted, COUNT_MAX)? as u32)
    }

    fn row(&mut self, len: usize, wanted: impl fmt::Display) -> Result<Vec<i64>, Malformed> {
        (0..len).map(|_| self.any(&wanted)).collect()
    }

    fn end(mut self) -> Result<(), Malformed> {
        match self.words.next() {
            None => Ok(()),
            Some((line, word, text)) => Err(Malformed {
                line,
                word,
                found: format!("{text:?}"),
                wanted: "the end of the file".into(),
            }),
        }
    }
}

/// A model file.
pub(crate) fn problem(text: &str) -> Result<Problem, Malformed> {
    let mut words = Words::of(text);
    let mut problem = Problem::default();
    let resources = words.count("the number of resources")?;
    for r in 0..resources {
        problem.resources.push(Resource {
            transient: words.number(format_args!("whether resource {r} is transient"), 1)? == 1,
            load_weight: words.any(format_args!("the load weight of resource {r}"))?,
        });
    }
    let machines = words.count("the number of machines")?;
    for m in 0..machines {
        problem.machines.push(Machine {
            neighbourhood: words.name(format_args!("the neighbourhood of machine {m}"))?,
            location: words.name(format_args!("the location of machine {m}"))?,
            capacity: words.row(resources, format_args!("a capacity of machine {m}"))?,
            safety: words.row(resources, format_args!("a safety capacity of machine {m}"))?,
        });
        for other in 0..machines {
            let wanted = format_args!("the cost of moving from machine {m} to {other}");
            let cost = words.number(wanted, u32::MAX.into())?;
            problem.machine_moves.push(cost as u32);
        }
    }
    for s in 0..words.count("the number of services")? {
        let spread_min = words.name(format_args!("the least spread of service {s}"))?;
        let depends_on = (0..words.count(format_args!("the dependencies of service {s}"))?)
            .map(|_| words.name(format_args!("a dependency of service {s}")))
            .collect::<Result<_, _>>()?;
        problem.services.push(Service {
            spread_min,
            depends_on,
        });
    }
    for p in 0..words.count("the number of processes")? {
        problem.processes.push(Process {
            service: words.name(format_args!("the service of process {p}"))?,
            needs: words.row(resources, format_args!("a need of process {p}"))?,
            move_cost: words.any(format_args!("the move cost of process {p}"))?,
        });
    }
    for b in 0..words.count("the number of balances")? {
        problem.balances.push(Balance {
            first: words.count(format_args!("the first resource of balance {b}"))?,
            second: words.count(format_args!("the second resource of balance {b}"))?,
            target: words.any(format_args!("the target of balance {b}"))?,
            weight: words.any(format_args!("the weight of balance {b}"))?,
        });
    }
    problem.weights = Weights {
        process_move: words.any("the weight of process moves")?,
        service_move: words.any("the weight of service moves")?,
        machine_move: words.any("the weight of machine moves")?,
    };
    words.end()?;
    Ok(problem)
}

/// An assignment file: the machine of each process.
pub(crate) fn assignment(text: &str, processes: usize) -> Result<Vec<u32>, Malformed> {
    let mut words = Words::of(text);
    let machines = (0..processes)
        .map(|p| words.name(format_args!("the machine of process {p}")))
        .collect::<Result<_, _>>()?;
    words.end()?;
    Ok(machines)
}

/// What [`problem`] reads.
pub(crate) fn problem_text(problem: &Problem) -> String {
    let mut lines = Lines::default();
    lines.line([problem.resources.len() as i64]);
    for resource in &problem.resources {
        lines.line([resource.transient.into(), resource.load_weight]);
    }
    let count = problem.machines.len();
    lines.line([count as i64]);
    for (m, machine) in problem.machines.iter().enumerate() {
        let place = [machine.neighbourhood.into(), machine.location.into()];
        let ways = problem.machine_moves.get(m * count..).unwrap_or_default();
        let ways = (0..count).map(|other| ways.get(other).map_or(0, |&way| way.into()));
        let amounts = machine.capacity.iter().chain(&machine.safety).copied();
        lines.line(place.into_iter().chain(amounts).chain(ways));
    }
    lines.line([problem.services.len() as i64]);
    for service in &problem.services {
        let of = [service.spread_min.into(), service.depends_on.len() as i64];
        lines.line(
            of.into_iter()
                .chain(service.depends_on.iter().map(|&s| s.into())),
        );
    }
    lines.line([problem.processes.len() as i64]);
    for process in &problem.processes {
        let needs = process.needs.iter().copied();
        lines.line(
            [process.service.into()]
                .into_iter()
                .chain(needs)
                .chain([process.move_cost]),
        );
    }
    lines.line([problem.balances.len() as i64]);
    for balance in &problem.balances {
        lines.line([balance.first as i64, balance.second as i64, balance.target]);
        lines.line([balance.weight]);
    }
    let weights = problem.weights;
    lines.line([
        weights.process_move,
        weights.service_move,
        weights.machine_move,
    ]);
    lines.text
}

/// What [`assignment`] reads.
pub(crate) fn assignment_text(assignment: &[u32]) -> String {
    let mut lines = Lines::default();
    lines.line(assignment.iter().map(|&machine| machine.into()));
    lines.text
}

#[derive(Default)]
struct Lines {
    text: String,
}

impl Lines {
    fn line(&mut self, numbers: impl IntoIterator<Item = i64>) {
        for (at, number) in numbers.into_iter().enumerate() {
            let between = if at > 0 { " " } else { "" };
            self.text += between;
            self.text += &number.to_string();
        }
        self.text.push('\n');
    }
}
