//! A whole explanation, line by line.

use std::fmt;

use super::{Explanation, Outlook, RuleVerdict, s};

/// Renders an [`Explanation`] in full: what is in the way, rule by rule, whether waiting is enough,
/// what would let the pod run, and what it waits for.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a>(pub(super) &'a Explanation);

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = self.0;
        writeln!(f, "{why}")?;
        for rule in &why.rules {
            writeln!(f, "  {rule}")?;
        }
        match why.outlook {
            Outlook::NotNow => writeln!(f, "not now: where only pods are in the way, it waits")?,
            Outlook::Never => {
                writeln!(
                    f,
                    "never on these nodes: a node, or what it asks, has to change"
                )?;
            }
        }
        for remedy in &why.remedies {
            writeln!(f, "  it would run {remedy}")?;
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
