//! Steps and their two renderings.

use crate::model::clock::Instant;
use crate::model::size;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

/// How often a running step prints a line without a terminal.
const HEARTBEAT: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, Default)]
pub struct UiOptions {
    pub quiet: bool,
    pub json: bool,
    /// Colour on stderr.
    pub color: bool,
    /// Colour on stdout, which may go elsewhere.
    pub color_data: bool,
}

/// All output for people and scripts goes through this.
#[derive(Clone)]
pub struct Ui {
    options: UiOptions,
    renderer: Renderer,
    heartbeat: Duration,
    gave_data: Arc<AtomicBool>,
}

#[derive(Clone)]
enum Renderer {
    Silent,
    Lines(Lines),
    Bars(MultiProgress),
}

/// Where lines for people go.
#[derive(Clone)]
enum Lines {
    Stderr,
    #[cfg(test)]
    Kept(Arc<Mutex<Vec<String>>>),
}

impl Lines {
    fn print(&self, text: &str) {
        match self {
            Lines::Stderr => eprintln!("{text}"),
            #[cfg(test)]
            Lines::Kept(lines) => lines
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(text.to_string()),
        }
    }
}

impl Ui {
    pub fn new(options: UiOptions) -> Self {
        let renderer = if options.quiet {
            Renderer::Silent
        } else if std::io::stderr().is_terminal() {
            Renderer::Bars(MultiProgress::new())
        } else {
            Renderer::Lines(Lines::Stderr)
        };
        Ui {
            options,
            renderer,
            heartbeat: HEARTBEAT,
            gave_data: Arc::default(),
        }
    }

    /// Returns one without output, for tests and unwatched work.
    pub fn silent() -> Self {
        Ui {
            options: UiOptions {
                quiet: true,
                ..UiOptions::default()
            },
            renderer: Renderer::Silent,
            heartbeat: HEARTBEAT,
            gave_data: Arc::default(),
        }
    }

    /// Returns one with another heartbeat, and the lines that it will print.
    #[cfg(test)]
    pub fn kept(heartbeat: Duration) -> (Self, Arc<Mutex<Vec<String>>>) {
        let lines = Arc::default();
        let ui = Ui {
            options: UiOptions::default(),
            renderer: Renderer::Lines(Lines::Kept(Arc::clone(&lines))),
            heartbeat,
            gave_data: Arc::default(),
        };
        (ui, lines)
    }

    pub fn json(&self) -> bool {
        self.options.json
    }

    /// Returns true if stdout has data: a `--json` command prints only one document.
    pub fn gave_data(&self) -> bool {
        self.gave_data.load(Ordering::Relaxed)
    }

    /// Begins a step; `label` names its subject.
    pub fn step(&self, label: impl Into<String>) -> Step {
        let label = label.into();
        let bar = match &self.renderer {
            Renderer::Bars(bars) => {
                let bar = bars.add(ProgressBar::new_spinner());
                if let Ok(style) = ProgressStyle::with_template("  {spinner} {prefix}  {wide_msg}") {
                    bar.set_style(style);
                }
                bar.set_prefix(label.clone());
                bar.enable_steady_tick(Duration::from_millis(100));
                Some(bar)
            }
            Renderer::Lines(_) | Renderer::Silent => None,
        };
        let running = Arc::new(Running {
            ui: self.clone(),
            label,
            bar,
            begun: Instant::now(),
            seen: Mutex::new((Instant::now(), String::new())),
            ended: Mutex::new(false),
        });
        if matches!(self.renderer, Renderer::Lines(_))
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(heartbeat(Arc::downgrade(&running)));
        }
        Step(running)
    }

    /// Prints a line for the person on stderr.
    pub fn note(&self, line: impl AsRef<str>) {
        if !matches!(self.renderer, Renderer::Silent) {
            self.line(line.as_ref());
        }
    }

    /// Prints a warning on stderr, also with `--quiet`.
    pub fn warn(&self, line: impl AsRef<str>) {
        self.line(&format!("{} {}", self.paint("33", "warning:"), line.as_ref()));
    }

    /// Prints the result of the command on stdout.
    pub fn data(&self, text: impl AsRef<str>) {
        let text = text.as_ref();
        self.gave_data.store(true, Ordering::Relaxed);
        let write = || {
            let mut out = std::io::stdout().lock();
            // A reader that has gone (`| head`) is no error.
            let _ = writeln!(out, "{}", text.trim_end_matches('\n'));
        };
        match &self.renderer {
            Renderer::Bars(bars) => bars.suspend(write),
            Renderer::Lines(_) | Renderer::Silent => write(),
        }
    }

    /// Returns `text` in an ANSI colour, if stderr has colour.
    pub fn paint(&self, code: &str, text: &str) -> String {
        painted(self.options.color, code, text)
    }

    /// As `paint`, for stdout.
    pub fn paint_data(&self, code: &str, text: &str) -> String {
        painted(self.options.color_data, code, text)
    }

    fn line(&self, text: &str) {
        match &self.renderer {
            Renderer::Bars(bars) => bars.suspend(|| eprintln!("{text}")),
            Renderer::Lines(lines) => lines.print(text),
            Renderer::Silent => eprintln!("{text}"),
        }
    }
}

fn painted(wanted: bool, code: &str, text: &str) -> String {
    if wanted {
        format!("\x1b[{code}m{text}\x1b[0m")
    } else {
        text.to_string()
    }
}

/// Prints every ten seconds that a step runs, also while its work reports nothing.
async fn heartbeat(step: Weak<Running>) {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        match step.upgrade() {
            Some(running) if !running.has_ended() => running.beat(),
            _ => return,
        }
    }
}

/// A running piece of work. A step that is dropped before its end is shown as stopped.
#[derive(Clone)]
pub struct Step(Arc<Running>);

struct Running {
    ui: Ui,
    label: String,
    bar: Option<ProgressBar>,
    begun: Instant,
    /// When a line was last printed, and what was reported since.
    seen: Mutex<(Instant, String)>,
    ended: Mutex<bool>,
}

impl Step {
    /// Reports the present state: at once on a terminal, as a heartbeat elsewhere.
    pub fn update(&self, seen: impl AsRef<str>) {
        let running = &self.0;
        if let Some(bar) = &running.bar {
            bar.set_message(seen.as_ref().to_string());
        } else if matches!(running.ui.renderer, Renderer::Lines(_)) {
            running.seen.lock().unwrap_or_else(PoisonError::into_inner).1 = seen.as_ref().to_string();
            running.beat();
        }
    }

    /// Ends the step in success; `result` says what was done.
    pub fn done(&self, result: impl AsRef<str>) {
        self.end(&self.0.ui.paint("32", "✓"), result.as_ref());
    }

    /// Ends the step in success, without a line if it took less than a heartbeat.
    pub fn over(&self, result: impl AsRef<str>) {
        if self.elapsed() < self.0.ui.heartbeat {
            self.0.end_unseen();
        } else {
            self.done(result);
        }
    }

    /// Ends the step if nothing had to be done.
    pub fn unchanged(&self, result: impl AsRef<str>) {
        self.end(&self.0.ui.paint("2", "="), result.as_ref());
    }

    /// Ends the step in failure. The caller prints the error.
    pub fn failed(&self, result: impl AsRef<str>) {
        self.end(&self.0.ui.paint("31", "✗"), result.as_ref());
    }

    pub fn elapsed(&self) -> Duration {
        self.0.begun.elapsed()
    }

    fn end(&self, mark: &str, result: &str) {
        self.0.end(mark, result);
    }
}

impl Running {
    fn has_ended(&self) -> bool {
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Prints a line if the last one is long ago.
    fn beat(&self) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.0.elapsed() >= self.ui.heartbeat {
            seen.0 = Instant::now();
            let time = size::duration(self.begun.elapsed());
            self.ui.line(&format!("  … {}  {} ({time})", self.label, seen.1));
        }
    }

    /// Returns false if the step had ended before.
    fn end_unseen(&self) -> bool {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut *ended, true) {
            return false;
        }
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        true
    }

    fn end(&self, mark: &str, result: &str) {
        if !self.end_unseen() {
            return;
        }
        if !matches!(self.ui.renderer, Renderer::Silent) {
            let time = size::duration(self.begun.elapsed());
            self.ui.line(&format!("  {mark} {}  {result} ({time})", self.label));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mark = self.ui.paint("31", "✗");
        self.end(&mark, "stopped");
    }
}
