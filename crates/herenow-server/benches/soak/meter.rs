//! [`Meter`]: what the nodes' processes take, looked at every few seconds.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use plotters::prelude::*;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::nodes::{NAMES, Nodes, Pids};

const INTERVAL: Duration = Duration::from_secs(5);
const MIB: f64 = 1024.0 * 1024.0;

/// One look at one node.
#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Duration,
    node: usize,
    rss_bytes: u64,
    n_files: usize,
}

pub(crate) struct Meter {
    task: JoinHandle<()>,
    samples: Arc<Mutex<Vec<Sample>>>,
}

/// All that was seen.
pub(crate) struct Record(Vec<Sample>);

impl Meter {
    pub(crate) fn start(nodes: &Nodes) -> Self {
        let samples = Arc::new(Mutex::new(Vec::new()));
        let (pids, kept, began) = (nodes.pids(), samples.clone(), Instant::now());
        let task = tokio::spawn(async move {
            loop {
                kept.lock().extend(look(&pids, began));
                sleep(INTERVAL).await;
            }
        });
        Self { task, samples }
    }

    pub(crate) async fn stop(self) -> Record {
        self.task.abort();
        let _aborted = self.task.await;
        Record(self.samples.lock().clone())
    }
}

fn look(pids: &Pids, began: Instant) -> Vec<Sample> {
    let pids = *pids.lock();
    let pids = pids.iter().enumerate();
    let samples = pids.filter_map(|(node, pid)| {
        let status = fs::read_to_string(format!("/proc/{}/status", (*pid)?)).ok()?;
        let rss = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kib: u64 = rss.split_whitespace().next()?.parse().ok()?;
        Some(Sample {
            at: began.elapsed(),
            node,
            rss_bytes: kib * 1024,
            n_files: fs::read_dir(format!("/proc/{}/fd", (*pid)?)).ok()?.count(),
        })
    });
    samples.collect()
}

impl Record {
    /// How much more memory the first node, which never ends, has in the last quarter than in the
    /// second: the ratio of the medians.
    pub(crate) fn growth(&self) -> f64 {
        let last = self.0.last().expect("somebody looked").at;
        let median = |from: u32, to: u32| {
            let is_in = |s: &&Sample| s.at >= last * from / 4 && s.at <= last * to / 4;
            let samples = self.0.iter().filter(|sample| sample.node == 0);
            let mut bytes: Vec<u64> = samples.filter(is_in).map(|s| s.rss_bytes).collect();
            bytes.sort_unstable();
            bytes[bytes.len() / 2] as f64
        };
        median(3, 4) / median(1, 2)
    }

    /// Writes `soak.csv` and `soak.svg` into a folder.
    pub(crate) fn save(&self, folder: &Path) {
        let mut csv = String::from("seconds,node,rss_bytes,n_files\n");
        for sample in &self.0 {
            let (seconds, name) = (sample.at.as_secs(), NAMES[sample.node]);
            let (rss, n_files) = (sample.rss_bytes, sample.n_files);
            writeln!(csv, "{seconds},{name},{rss},{n_files}").expect("a string takes all");
        }
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join("soak.csv"), csv).unwrap();
        self.draw(&folder.join("soak.svg")).unwrap();
    }

    fn draw(&self, path: &Path) -> Result<(), Box<dyn std::error::Error + '_>> {
        let minutes = |sample: &Sample| sample.at.as_secs_f64() / 60.0;
        let last = self.0.last().map(minutes).unwrap_or_default();
        let most = self.0.iter().map(|sample| sample.rss_bytes).max();
        let most = most.unwrap_or_default() as f64 / MIB;
        let root = SVGBackend::new(path, (900, 400)).into_drawing_area();
        root.fill(&WHITE)?;
        let title = "Resident memory of three nodes under churn, faults and hostile clients";
        let mut chart = ChartBuilder::on(&root)
            .caption(title, ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(64)
            .build_cartesian_2d(0.0..last, 0.0..most * 1.2)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .x_desc("minutes")
            .y_desc("MiB")
            .draw()?;
        for (number, name) in NAMES.iter().enumerate() {
            let samples = self.0.iter().filter(|sample| sample.node == number);
            let points = samples.map(|sample| (minutes(sample), sample.rss_bytes as f64 / MIB));
            let color = Palette99::pick(number).to_rgba();
            chart
                .draw_series(LineSeries::new(points, color.stroke_width(2)))?
                .label(*name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color));
        }
        chart
            .configure_series_labels()
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK.mix(0.3))
            .position(SeriesLabelPosition::LowerRight)
            .draw()?;
        root.present()?;
        Ok(())
    }
}
