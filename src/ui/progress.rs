//! Steps and their two renderings.

use super::size;
use crate::wait::Instant;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often a step that goes on says so where there is no terminal.
const HEARTBEAT: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, Default)]
pub struct UiOptions {
    pub quiet: bool,
    pub json: bool,
    pub color: bool,
}

/// Where everything that a person or a script sees goes through.
#[derive(Clone)]
pub struct Ui {
    options: UiOptions,
    renderer: Renderer,
}

#[derive(Clone)]
enum Renderer {
    Silent,
    Lines,
    Bars(MultiProgress),
}

impl Ui {
    pub fn new(options: UiOptions) -> Self {
        let renderer = if options.quiet {
            Renderer::Silent
        } else if std::io::stderr().is_terminal() {
            Renderer::Bars(MultiProgress::new())
        } else {
            Renderer::Lines
        };
        Ui { options, renderer }
    }

    /// For tests and for work whose steps nobody watches.
    pub fn silent() -> Self {
        Ui {
            options: UiOptions {
                quiet: true,
                ..UiOptions::default()
            },
            renderer: Renderer::Silent,
        }
    }

    pub fn json(&self) -> bool {
        self.options.json
    }

    pub fn color(&self) -> bool {
        self.options.color
    }

    /// Begins a step; `label` names the thing that is worked on.
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
            Renderer::Lines | Renderer::Silent => None,
        };
        Step(Arc::new(Running {
            ui: self.clone(),
            label,
            bar,
            begun: Instant::now(),
            last_line: Mutex::new(Instant::now()),
            ended: Mutex::new(false),
        }))
    }

    /// A line for the person, on stderr.
    pub fn note(&self, line: impl AsRef<str>) {
        if !matches!(self.renderer, Renderer::Silent) {
            self.line(line.as_ref());
        }
    }

    /// A warning on stderr; shown also with `--quiet`.
    pub fn warn(&self, line: impl AsRef<str>) {
        self.line(&format!("{} {}", self.paint("33", "warning:"), line.as_ref()));
    }

    /// What the command was asked for, on stdout.
    pub fn data(&self, text: impl AsRef<str>) {
        let text = text.as_ref();
        let write = || {
            let mut out = std::io::stdout().lock();
            // A reader that has gone (`| head`) is no error of ours.
            let _ = writeln!(out, "{}", text.trim_end_matches('\n'));
        };
        match &self.renderer {
            Renderer::Bars(bars) => bars.suspend(write),
            Renderer::Lines | Renderer::Silent => write(),
        }
    }

    /// `text` in an ANSI colour code where colour is wanted.
    pub fn paint(&self, code: &str, text: &str) -> String {
        if self.options.color {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_string()
        }
    }

    fn line(&self, text: &str) {
        match &self.renderer {
            Renderer::Bars(bars) => bars.suspend(|| eprintln!("{text}")),
            Renderer::Lines | Renderer::Silent => eprintln!("{text}"),
        }
    }
}

/// One piece of work that is under way. A step that is dropped without an end is shown as stopped.
#[derive(Clone)]
pub struct Step(Arc<Running>);

struct Running {
    ui: Ui,
    label: String,
    bar: Option<ProgressBar>,
    begun: Instant,
    last_line: Mutex<Instant>,
    ended: Mutex<bool>,
}

impl Step {
    /// What is seen right now; shown at once on a terminal, as a heartbeat elsewhere.
    pub fn update(&self, seen: impl AsRef<str>) {
        let running = &self.0;
        if let Some(bar) = &running.bar {
            bar.set_message(seen.as_ref().to_string());
        } else if matches!(running.ui.renderer, Renderer::Lines) {
            let mut last = running.last_line.lock().unwrap_or_else(PoisonError::into_inner);
            if last.elapsed() >= HEARTBEAT {
                *last = Instant::now();
                eprintln!(
                    "  … {}  {} ({})",
                    running.label,
                    seen.as_ref(),
                    size::duration(running.begun.elapsed())
                );
            }
        }
    }

    /// Ends the step well; `result` says what came of it.
    pub fn done(&self, result: impl AsRef<str>) {
        self.end(&self.0.ui.paint("32", "✓"), result.as_ref());
    }

    /// Ends the step where nothing had to be done.
    pub fn unchanged(&self, result: impl AsRef<str>) {
        self.end(&self.0.ui.paint("2", "="), result.as_ref());
    }

    /// Ends the step badly; the error itself is printed by whoever gets it.
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
    fn end(&self, mark: &str, result: &str) {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut *ended, true) {
            return;
        }
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        if !matches!(self.ui.renderer, Renderer::Silent) {
            let time = self.begun.elapsed();
            let time = if time >= Duration::from_millis(500) {
                format!(" ({})", size::duration(time))
            } else {
                String::new()
            };
            self.ui.line(&format!("  {mark} {}  {result}{time}", self.label));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mark = self.ui.paint("31", "✗");
        self.end(&mark, "stopped");
    }
}
