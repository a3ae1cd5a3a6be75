//! Measures clusters of many nodes and presences; keeps the figures as CSV, and draws and prints
//! them.
//!
//! Each cluster is run by a process of its own, so that its memory can be told and is given back.

#![allow(
    clippy::print_stdout,
    reason = "a command-line tool speaks on standard output"
)]

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use clap::Parser;
use herenow_sim::{Measured, Model, Setup, measure};
use plotters::prelude::*;

/// Measures clusters of many nodes and many presences.
#[derive(Debug, Clone, Parser)]
struct Arguments {
    /// Numbers of nodes.
    #[arg(long, value_delimiter = ',', default_value = "10,50,100,300")]
    nodes: Vec<usize>,
    /// Numbers of presences in the whole cluster.
    #[arg(long, value_delimiter = ',', default_value = "10000,100000,1000000")]
    presences: Vec<usize>,
    /// Leaves out clusters whose nodes together hold more rows: 60 bytes each have to fit.
    #[arg(long, default_value_t = 50_000_000)]
    max_rows: usize,
    /// Shards that topics are spread over.
    #[arg(long, default_value_t = 64)]
    shards: u16,
    /// Shards that a node carries; all of them without it.
    #[arg(long)]
    carried: Option<u16>,
    /// Removals that an owner remembers, for each shard.
    #[arg(long, default_value_t = 65_536)]
    history: usize,
    /// The seed of all chance.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where the figures and the plots are kept.
    #[arg(long, default_value = "docs/plots")]
    out: PathBuf,
    /// Runs nothing: prints and draws the figures that are kept.
    #[arg(long)]
    draw: bool,
    /// Runs the first cluster only, here, and prints its line.
    #[arg(long, hide = true)]
    one: bool,
}

/// The figures of one cluster, by the names of [`Measured`].
type Figures = BTreeMap<String, f64>;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = if arguments.one {
        run_one(&arguments)
    } else {
        run(&arguments)
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(&arguments.out)?;
    let kept = arguments.out.join("scale.csv");
    let mut lines = read(&kept)?;
    for &presences in arguments.presences.iter().filter(|_| !arguments.draw) {
        for &nodes in &arguments.nodes {
            let carried = usize::from(arguments.carried.unwrap_or(arguments.shards));
            let n_rows = nodes * presences * carried / usize::from(arguments.shards);
            if n_rows > arguments.max_rows {
                println!("{nodes} nodes, {presences} presences: left out, {n_rows} rows");
                continue;
            }
            let began = Instant::now();
            let figures = measure_apart(arguments, nodes, presences)?;
            let seconds = began.elapsed().as_secs();
            println!("{nodes} nodes, {presences} presences: took {seconds} s, all lists right");
            lines.retain(|other| cluster(other) != cluster(&figures));
            lines.push(figures);
            write(&kept, &mut lines)?;
        }
    }
    println!("\n{}", table(&lines));
    for plot in &PLOTS {
        draw(plot, &lines, &arguments.out)?;
    }
    Ok(())
}

/// Runs one cluster in a process of its own.
fn measure_apart(
    arguments: &Arguments,
    nodes: usize,
    presences: usize,
) -> Result<Figures, Box<dyn Error>> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--one").arg(format!("--nodes={nodes}"));
    command.arg(format!("--presences={presences}"));
    command.arg(format!("--shards={}", arguments.shards));
    command.arg(format!("--history={}", arguments.history));
    command.arg(format!("--seed={}", arguments.seed));
    if let Some(carried) = arguments.carried {
        command.arg(format!("--carried={carried}"));
    }
    let output = command.output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{nodes} nodes, {presences} presences: {said}").into());
    }
    Ok(parse(&String::from_utf8(output.stdout)?))
}

fn run_one(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let n_presences = arguments.presences[0];
    let setup = Setup {
        n_nodes: arguments.nodes[0],
        n_presences,
        n_shards: arguments.shards,
        n_carried: arguments.carried.unwrap_or(arguments.shards),
        max_history: arguments.history,
        changes_per_second: (n_presences / 1000).max(1),
        seed: arguments.seed,
    };
    let measured = measure(&setup, &Model::default())?;
    let columns = measured.columns();
    let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    let values: Vec<String> = columns.iter().map(|(_, value)| round(*value)).collect();
    println!("{}\n{}", names.join(","), values.join(","));
    Ok(())
}

fn round(value: f64) -> String {
    let digits = if value.abs() < 1000.0 && value.fract() != 0.0 {
        3
    } else {
        0
    };
    format!("{value:.digits$}")
}

/// Reads the last line of a table by the names in its first.
fn parse(text: &str) -> Figures {
    let (names, values) = text.trim().split_once('\n').unwrap_or_default();
    let values = values.split(',').map(|value| value.parse().unwrap_or(0.0));
    let names = names.split(',').map(str::to_owned);
    names.zip(values).collect()
}

fn read(path: &Path) -> Result<Vec<Figures>, Box<dyn Error>> {
    if !path.is_file() {
        return Ok(Vec::new());
    }
    let text = fs::read_to_string(path)?;
    let (names, lines) = text.split_once('\n').unwrap_or_default();
    let lines = lines.lines().map(|line| parse(&format!("{names}\n{line}")));
    Ok(lines.collect())
}

fn write(path: &Path, lines: &mut [Figures]) -> Result<(), Box<dyn Error>> {
    lines.sort_by_key(cluster);
    let columns = Measured::default().columns();
    let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    let mut text = names.join(",");
    for figures in lines.iter() {
        let values: Vec<String> = names.iter().map(|name| round(get(figures, name))).collect();
        write!(text, "\n{}", values.join(","))?;
    }
    fs::write(path, text + "\n")?;
    Ok(())
}

fn get(figures: &Figures, name: &str) -> f64 {
    figures.get(name).copied().unwrap_or(0.0)
}

/// Returns what tells clusters apart.
fn cluster(figures: &Figures) -> [u64; 5] {
    let names = ["shards", "carried", "history", "presences", "nodes"];
    names.map(|name| get(figures, name) as u64)
}

/// Prints the figures as Markdown.
fn table(lines: &[Figures]) -> String {
    let mut text = String::from(
        "| nodes | presences | shards carried | quiet: B/s, messages/s | churn: changes/s, kB/s, \
         messages/s, core | a join everywhere: quiet, churn (p50, p99) | newcomer complete, bytes | \
         memory | heal: time, bytes, bytes allowed |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for line in lines {
        let get = |name| get(line, name);
        let history = match get("history") {
            65_536.0 => String::new(),
            history => format!(" (history {history})"),
        };
        let _ = writeln!(
            text,
            "| {} | {} | {} of {} | {:.0}, {:.0} | {:.0}, {:.1}, {:.0}, {:.2} % | {:.2}, {:.2} ms; \
             {:.2}, {:.2} ms | {:.0} ms, {:.1} MB | {:.1} MB | {:.0} ms, {:.1} kB, {:.1} kB{history} |",
            get("nodes"),
            get("presences"),
            get("carried"),
            get("shards"),
            get("quiet_bytes"),
            get("quiet_messages"),
            get("churn_changes"),
            get("churn_bytes") / 1e3,
            get("churn_messages"),
            get("churn_cpu_percent"),
            get("join_quiet_p50_ms"),
            get("join_quiet_p99_ms"),
            get("join_churn_p50_ms"),
            get("join_churn_p99_ms"),
            get("newcomer_ms"),
            get("newcomer_bytes") / 1e6,
            get("memory_bytes") / 1e6,
            get("heal_ms"),
            get("heal_bytes") / 1e3,
            allowed_bytes(line) / 1e3,
        );
    }
    text
}

/// What healing may cost a node: 80 bytes for each change, 2 bits for each row of the other half
/// that did not change.
fn allowed_bytes(figures: &Figures) -> f64 {
    let carried = get(figures, "carried") / get(figures, "shards").max(1.0);
    let rows = get(figures, "presences") * carried / 2.0;
    let changes = get(figures, "heal_changes") * carried;
    changes * 80.0 + (rows - changes).max(0.0) / 4.0
}

/// One measure, drawn over the number of nodes.
struct Plot {
    file: &'static str,
    title: &'static str,
    /// The columns, each with its name in the legend, and what to divide by.
    columns: &'static [(&'static str, &'static str)],
    unit: f64,
}

const PLOTS: [Plot; 8] = [
    Plot {
        file: "quiet-bytes.svg",
        title: "Quiet: kB/s received per node",
        columns: &[("quiet_bytes", "")],
        unit: 1e3,
    },
    Plot {
        file: "churn-bytes.svg",
        title: "Churn of 0.1 % a second: kB/s received per node",
        columns: &[("churn_bytes", "")],
        unit: 1e3,
    },
    Plot {
        file: "messages.svg",
        title: "Messages/s received per node",
        columns: &[("quiet_messages", " quiet"), ("churn_messages", " churn")],
        unit: 1.0,
    },
    Plot {
        file: "memory.svg",
        title: "Memory of a node, MB",
        columns: &[("memory_bytes", "")],
        unit: 1e6,
    },
    Plot {
        file: "newcomer.svg",
        title: "Until a newcomer is complete, ms",
        columns: &[("newcomer_ms", "")],
        unit: 1.0,
    },
    Plot {
        file: "join.svg",
        title: "Until a join is on all nodes, under churn, ms",
        columns: &[("join_churn_p50_ms", " p50"), ("join_churn_p99_ms", " p99")],
        unit: 1.0,
    },
    Plot {
        file: "heal.svg",
        title: "Until all are complete after a cut of 60 s under churn, ms",
        columns: &[("heal_ms", "")],
        unit: 1.0,
    },
    Plot {
        file: "heal-bytes.svg",
        title: "Received per node to heal after a cut of 60 s under churn, kB",
        columns: &[("heal_bytes", "")],
        unit: 1e3,
    },
];

/// A line of a plot: its name, and its points.
type Line = (String, Vec<(f64, f64)>);

/// Returns the lines of a plot: one for each number of presences and column, of clusters that carry
/// everything and have the default history.
fn lines_of(plot: &Plot, figures: &[Figures]) -> Vec<Line> {
    let mut lines: BTreeMap<(u64, usize), Line> = BTreeMap::new();
    for figures in figures {
        let [shards, carried, history, presences, _] = cluster(figures);
        if carried != shards || history != 65_536 {
            continue;
        }
        for (at, (column, suffix)) in plot.columns.iter().enumerate() {
            let name = format!("{presences} presences{suffix}");
            let (_, points) = lines.entry((presences, at)).or_insert((name, Vec::new()));
            points.push((get(figures, "nodes"), get(figures, column) / plot.unit));
        }
    }
    lines.into_values().collect()
}

fn draw(plot: &Plot, figures: &[Figures], folder: &Path) -> Result<(), Box<dyn Error>> {
    let lines = lines_of(plot, figures);
    let values = lines.iter().flat_map(|(_, points)| points);
    let values = values.map(|(_, value)| *value).filter(|value| *value > 0.0);
    let (least, most) = values.fold((f64::MAX, 0.0_f64), |(least, most), value| {
        (least.min(value), most.max(value))
    });
    if most == 0.0 {
        return Ok(());
    }
    let path = folder.join(plot.file);
    let root = SVGBackend::new(&path, (640, 400)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(plot.title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(64)
        .build_cartesian_2d(
            (8.0..400.0_f64).log_scale(),
            (least / 8.0..most * 1.5).log_scale(),
        )?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .x_desc("nodes")
        .x_label_formatter(&|nodes| format!("{nodes:.0}"))
        .y_label_formatter(&|value| label(*value))
        .draw()?;
    for (number, (name, points)) in lines.iter().enumerate() {
        let color = Palette99::pick(number).to_rgba();
        let series = LineSeries::new(points.iter().copied(), color.stroke_width(2));
        chart
            .draw_series(series.point_size(3))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color.stroke_width(2)));
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

fn label(value: f64) -> String {
    let digits = if value < 1.0 { 2 } else { 0 };
    format!("{value:.digits$}")
}
