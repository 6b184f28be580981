//! The demo app's files, which Node.js builds when somebody opens the app for the first time.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;
use std::{fs, io};

use tokio::process::Command;

/// The sources of the app.
const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/web");

/// The state of the app's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Bundle {
    /// They are being built. The text says what is happening.
    Building(&'static str),
    /// They are in this folder.
    Ready(PathBuf),
    /// They cannot be built. The text says why, and what to do.
    Failed(String),
}

/// Builds the files once, in the background.
#[derive(Debug, Clone)]
pub(super) struct Bundler {
    sources: &'static Path,
    state: Arc<Mutex<Option<Bundle>>>,
}

impl Default for Bundler {
    fn default() -> Self {
        Self { sources: Path::new(SOURCES), state: Arc::default() }
    }
}

impl Bundler {
    /// The state of the files. The first call starts the build. After a failure, each call retries it.
    pub(super) fn bundle(&self) -> Bundle {
        let mut state = self.state();
        match &*state {
            Some(bundle @ (Bundle::Building(_) | Bundle::Ready(_))) => return bundle.clone(),
            Some(Bundle::Failed(_)) | None => {}
        }
        let folder = self.sources.join("dist");
        if is_newer(&folder.join("app.js"), self.sources).unwrap_or(false) {
            return state.insert(Bundle::Ready(folder)).clone();
        }
        let building = Bundle::Building("Building the demo app");
        let failed = state.replace(building.clone());
        tokio::spawn(self.clone().build(folder));
        // A page that shows a failure must not look as if a build had begun.
        failed.unwrap_or(building)
    }

    async fn build(self, folder: PathBuf) {
        let end = match self.build_from(self.sources).await {
            Ok(()) => Bundle::Ready(folder),
            Err(problem) => {
                eprintln!("{problem}");
                Bundle::Failed(problem)
            }
        };
        *self.state() = Some(end);
    }

    async fn build_from(&self, sources: &Path) -> Result<(), String> {
        let pins = |path: &str| fs::read(sources.join(path)).ok();
        if pins("package-lock.json") != pins("node_modules/.pins") {
            self.step("Installing the demo app's packages (npm ci)");
            let options = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"];
            run(sources, "npm", &options).await?;
            let copied = fs::copy(sources.join("package-lock.json"), sources.join("node_modules/.pins"));
            copied.map_err(|error| format!("The demo app cannot be built: {error}"))?;
        }
        self.step("Building the demo app");
        run(sources, "node", &["build.js"]).await
    }

    fn step(&self, text: &'static str) {
        eprintln!("{text}");
        *self.state() = Some(Bundle::Building(text));
    }

    fn state(&self) -> MutexGuard<'_, Option<Bundle>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs a tool, and shows what it writes.
async fn run(folder: &Path, tool: &str, arguments: &[&str]) -> Result<(), String> {
    let mut command = Command::new(tool);
    command.args(arguments).current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
    match command.status().await {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => {
            let command = arguments.join(" ");
            Err(format!(
                "The demo app cannot be built: `{tool} {command}` failed ({status}). The terminal says why. Then load \
                 this page again."
            ))
        }
        Err(_) => Err(format!(
            "The demo app needs Node.js 20 or newer with npm, and `{tool}` cannot be started. Install it, and load \
             this page again. Everything else works without it."
        )),
    }
}

/// Whether `built` is newer than every source.
fn is_newer(built: &Path, sources: &Path) -> io::Result<bool> {
    let built = fs::metadata(built)?.modified()?;
    let mut files: Vec<_> =
        ["build.js", "package-lock.json", "base.css"].map(|file| sources.join(file)).into();
    for folder in ["src", "src/demo"] {
        for entry in fs::read_dir(sources.join(folder))? {
            files.push(entry?.path());
        }
    }
    let mut newest = SystemTime::UNIX_EPOCH;
    for file in files.iter().filter(|file| file.is_file()) {
        newest = newest.max(fs::metadata(file)?.modified()?);
    }
    Ok(built > newest)
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs::File;
    use std::time::Duration;

    use shared::clock::{Clock, SystemClock};

    use super::*;

    /// A time in the past, when the sources were written.
    const WRITTEN: SystemTime = SystemTime::UNIX_EPOCH;

    /// A folder with sources.
    pub(in crate::web) fn sources(name: &str) -> &'static Path {
        let folder = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join("src/demo")).unwrap();
        for file in ["build.js", "package-lock.json", "src/pin-change.ts", "src/demo/main.ts"] {
            let file = File::create(folder.join(file)).unwrap();
            file.set_modified(WRITTEN).unwrap();
        }
        Box::leak(folder.into_boxed_path())
    }

    pub(in crate::web) fn bundler(sources: &'static Path) -> Bundler {
        Bundler { sources, state: Arc::default() }
    }

    #[tokio::test]
    async fn files_that_are_newer_than_their_sources_are_not_built_again() {
        let sources = sources("newer");
        let built = sources.join("dist/app.js");
        fs::create_dir_all(sources.join("dist")).unwrap();
        fs::write(&built, "").unwrap();
        assert_eq!(bundler(sources).bundle(), Bundle::Ready(sources.join("dist")));

        let source = File::options().append(true).open(sources.join("src/demo/main.ts")).unwrap();
        source.set_modified(SystemClock.now().into()).unwrap();
        let built = File::options().append(true).open(&built).unwrap();
        built.set_modified(WRITTEN).unwrap();
        assert!(matches!(bundler(sources).bundle(), Bundle::Building(_)));
        fs::remove_dir_all(sources).unwrap();
    }

    #[tokio::test]
    async fn failed_build_says_why_and_is_retried() {
        let sources = sources("failing");
        let bundler = bundler(sources);
        assert!(matches!(bundler.bundle(), Bundle::Building(_)));
        let failed = loop {
            let state = bundler.state().clone();
            match state {
                Some(Bundle::Failed(problem)) => break problem,
                _ => SystemClock.sleep(Duration::from_millis(10)).await,
            }
        };
        // Without npm, the text says that Node.js is missing. With npm, an empty lock file fails.
        assert!(failed.starts_with("The demo app "), "{failed}");
        assert_eq!(bundler.bundle(), Bundle::Failed(failed));
        assert!(matches!(*bundler.state(), Some(Bundle::Building(_))));
        fs::remove_dir_all(sources).unwrap();
    }

    #[tokio::test]
    async fn missing_tool_is_named() {
        let problem = run(Path::new("."), "no-such-tool", &[]).await.unwrap_err();
        assert!(problem.contains("Node.js 20") && problem.contains("`no-such-tool`"), "{problem}");
        assert!(problem.contains("Everything else works without it."));
    }
}
