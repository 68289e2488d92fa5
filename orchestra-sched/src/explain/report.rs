//! A whole explanation, line by line.

use std::fmt;

use super::gang::Nth;
use super::{Explanation, Outlook, RuleVerdict, s};

/// Renders an [`Explanation`] in full: what is in the way, rule by rule, whether waiting is enough,
/// what would let the pod run, and what it waits for.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a>(pub(super) &'a Explanation);

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = self.0;
        writeln!(f, "{why}")?;
        let gang = why.gang.as_ref();
        let next = gang.and_then(|gang| Some((gang, gang.next.as_deref()?)));
        // Of a gang, the first that has no place.
        let shown = next.map_or(why, |(_, next)| next);
        for rule in &shown.rules {
            writeln!(f, "  {rule}")?;
        }
        let never = gang.and_then(|gang| Some((gang, gang.never.as_ref()?)));
        if let Some((gang, never)) = never {
            let (most, min) = (never.most, gang.min);
            writeln!(
                f,
                "never on these nodes: with all other pods gone there are places for at most {most} of \
                 {min}"
            )?;
            if let Some(more) = &never.more_nodes {
                writeln!(f, "  it takes at least {more}")?;
            }
        }
        match why.outlook {
            _ if never.is_some() => {}
            Outlook::NotNow if gang.is_some_and(|gang| gang.to_come() > 0) => {
                writeln!(f, "not now: it waits for more of its gang")?;
            }
            Outlook::NotNow => writeln!(f, "not now: where only pods are in the way, it waits")?,
            Outlook::Never => {
                writeln!(
                    f,
                    "never on these nodes: a node, or what it asks, has to change"
                )?;
            }
        }
        for remedy in &shown.remedies {
            match next {
                Some((gang, _)) => write!(f, "  the {}", Nth(gang.places + 1))?,
                None => f.write_str("  it")?,
            }
            writeln!(f, " would run {remedy}")?;
        }
        write!(f, "looked at again when {}", why.helped_by)
    }
}

impl fmt::Display for RuleVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            rule,
            nodes,
            alone,
            lasting,
        } = self;
        let one = *nodes == 1;
        write!(f, "{rule} turn{} down {nodes}", s(true))?;
        let mut separator = " (";
        if *alone > 0 {
            let all = if alone == nodes && !one { "all " } else { "" };
            write!(f, "{separator}{all}{alone} by itself")?;
            separator = ", ";
        }
        if *lasting > 0 {
            write!(f, "{separator}{lasting} whichever pods leave")?;
            separator = ", ";
        }
        if separator == ", " {
            f.write_str(")")?;
        }
        Ok(())
    }
}
