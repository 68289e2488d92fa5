//! Files that a program is given by name: what is wrong with one is said with its path, and before
//! anything that takes long.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The text of a file, without the mark that some editors put at its beginning.
///
/// # Errors
///
/// If it cannot be read, and with the line if it is not UTF-8.
pub fn read_text(path: &Path) -> Result<String, String> {
    let bytes = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let text = std::str::from_utf8(&bytes).map_err(|error| {
        let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        format!(
            "{}: line {line} is not UTF-8; save it as UTF-8",
            path.display()
        )
    })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text).to_owned())
}

/// A file that will be written.
#[derive(Debug)]
pub struct Output {
    path: PathBuf,
    file: File,
}

impl Output {
    /// Opens the file, and makes it if there is none. What stands there stays until something is
    /// written.
    ///
    /// # Errors
    ///
    /// If it cannot be written, naming its folder if that is what is missing.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, String> {
        let path = path.into();
        let mut options = OpenOptions::new();
        match options.write(true).create(true).truncate(false).open(&path) {
            Ok(file) => Ok(Self { path, file }),
            Err(error) => {
                let folder = path.parent().filter(|one| !one.as_os_str().is_empty());
                let path = path.display();
                Err(match folder.filter(|folder| !folder.is_dir()) {
                    Some(folder) => format!("{path}: there is no folder {}", folder.display()),
                    None => format!("{path}: {error}"),
                })
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes all of it.
    ///
    /// # Errors
    ///
    /// If it cannot be written, with its path.
    pub fn write(mut self, text: &str) -> Result<(), String> {
        let write = |file: &mut File| -> io::Result<()> {
            let kept = file.metadata()?;
            // What is no file, such as a terminal, has no length to set.
            if kept.is_file() {
                file.set_len(0)?;
            }
            file.write_all(text.as_bytes())
        };
        write(&mut self.file).map_err(|error| format!("{}: {error}", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn folder(name: &str) -> PathBuf {
        let name = format!("orchestra-files-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn what_cannot_be_read_is_told_with_its_line() {
        let folder = folder("read");
        let path = folder.join("a.csv");
        fs::write(&path, "\u{feff}a,b\nc,d\n").unwrap();
        assert_eq!(read_text(&path).unwrap(), "a,b\nc,d\n");
        fs::write(&path, b"a,b\nc,\xe9\n").unwrap();
        let said = read_text(&path).unwrap_err();
        assert!(
            said.ends_with("a.csv: line 2 is not UTF-8; save it as UTF-8"),
            "{said}"
        );
        assert!(
            read_text(&folder.join("none"))
                .unwrap_err()
                .contains("none: ")
        );
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_cannot_be_written_is_told_when_it_is_opened() {
        let folder = folder("write");
        let path = folder.join("a.csv");
        fs::write(&path, "long before").unwrap();
        let output = Output::open(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "long before");
        output.write("now").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "now");
        let missing = folder.join("none");
        let said = Output::open(missing.join("b.csv")).unwrap_err();
        assert!(
            said.ends_with(&format!("there is no folder {}", missing.display())),
            "{said}"
        );
        fs::remove_dir_all(folder).unwrap();
    }
}
