//! From a wish to a command that can be started.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use orchestra_core::port::driver::{DriverErrorKind, Workload};
use rustix::fs::{Access, access};

/// Where programs are looked for if the workload's environment has no `PATH`.
const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Why a program cannot be started: the kind, and for people the remedy.
pub(super) type Refusal = (DriverErrorKind, String);

fn invalid<T>(why: String) -> Result<T, Refusal> {
    Err((DriverErrorKind::Invalid, why))
}

/// The surroundings in which a workload's programs run.
#[derive(Clone, Debug, Default)]
pub(super) struct Surroundings {
    pub(super) env: Vec<(OsString, OsString)>,
    /// `None`: that of the host program.
    pub(super) working_dir: Option<PathBuf>,
}

impl Surroundings {
    pub(super) fn of(want: &Workload) -> Self {
        let env = want
            .env
            .iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        Self {
            env,
            working_dir: want.working_dir.clone(),
        }
    }

    /// A command in a process group of its own, with this environment and nothing else.
    pub(super) fn command(&self, words: &[&str]) -> Result<Command, Refusal> {
        let Some((name, args)) = words.split_first().filter(|(name, _)| !name.is_empty()) else {
            return invalid("neither command nor image names a program; set one".to_owned());
        };
        if let Some((name, _)) = self
            .env
            .iter()
            .find(|(name, _)| name.is_empty() || name.as_encoded_bytes().contains(&b'='))
        {
            return invalid(format!(
                "{name:?} cannot name an environment variable; rename it"
            ));
        }
        if let Some(dir) = &self.working_dir
            && !dir.is_dir()
        {
            return invalid(format!(
                "the working directory {} is not a directory; create it or name another",
                dir.display()
            ));
        }
        let mut command = Command::new(self.resolve(name)?);
        command
            .arg0(name)
            .args(args)
            .env_clear()
            .envs(self.env.iter().cloned())
            .process_group(0);
        if let Some(dir) = &self.working_dir {
            command.current_dir(dir);
        }
        Ok(command)
    }

    /// Finds the program, before anything is started.
    fn resolve(&self, name: &str) -> Result<PathBuf, Refusal> {
        if name.contains('/') {
            let path = match &self.working_dir {
                Some(dir) => dir.join(name),
                None => PathBuf::from(name),
            };
            return match defect(&path) {
                None => Ok(std::path::absolute(&path).unwrap_or(path)),
                Some(defect) => invalid(format!("{} {defect}", path.display())),
            };
        }
        let path = self.env.iter().find(|(name, _)| name == "PATH");
        let path = path.map_or_else(|| PATH_DEFAULT.into(), |(_, value)| value.clone());
        let mut seen = String::new();
        for dir in std::env::split_paths(&path).filter(|dir| dir.is_absolute()) {
            let candidate = dir.join(name);
            match defect(&candidate) {
                None => return Ok(candidate),
                Some(defect) if candidate.exists() => {
                    let _ = write!(seen, "; {} {defect}", candidate.display());
                }
                Some(_) => {}
            }
        }
        invalid(format!(
            "no program {name:?} on PATH {}{seen}; install it there, or name it by its absolute path",
            path.display()
        ))
    }
}

/// What keeps the file at `path` from being run.
fn defect(path: &Path) -> Option<&'static str> {
    match std::fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Some("cannot be reached; allow the directories above it to be searched")
        }
        Err(_) => Some("does not exist; install it, or name another program"),
        Ok(meta) if !meta.is_file() => Some("is not a file; name a program"),
        Ok(_) if access(path, Access::EXEC_OK).is_err() => {
            Some("is not executable; allow it with `chmod +x`")
        }
        Ok(_) => None,
    }
}

/// What a failed start means.
pub(super) fn refusal(command: &Command, error: &io::Error) -> Refusal {
    let program = command.get_program().display();
    match rustix::io::Errno::from_io_error(error) {
        Some(rustix::io::Errno::NOENT) => (
            DriverErrorKind::Invalid,
            format!(
                "{program}: its interpreter does not exist; correct its first line or install it"
            ),
        ),
        Some(rustix::io::Errno::NOEXEC) => (
            DriverErrorKind::Invalid,
            format!("{program} is no program for this machine; a script needs a first line `#!…`"),
        ),
        Some(rustix::io::Errno::TOOBIG) => (
            DriverErrorKind::Invalid,
            format!("{program}: arguments and environment are too long; hand them over in a file"),
        ),
        Some(rustix::io::Errno::ACCESS | rustix::io::Errno::PERM) => (
            DriverErrorKind::Invalid,
            format!("{program} may not be run here: {error}"),
        ),
        _ if error.kind() == io::ErrorKind::InvalidInput => (
            DriverErrorKind::Invalid,
            format!("{program}: an argument or variable holds a NUL byte; remove it"),
        ),
        _ => (
            DriverErrorKind::Exhausted,
            format!("{program} was not started: {error}"),
        ),
    }
}
