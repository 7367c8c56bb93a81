//! The measurement: each shape once, by ascending size, for its peak memory; then rounds over all shapes for the times. Rounds go over the
//! whole grid, so that a slow phase of the machine falls on all shapes and not on one.

use super::bench::{Bench, Repeat};
use super::grid::Grid;
use super::machine::{OtherPrograms, ProcessorTime};
use super::settings::{CalibrationOptions, CalibrationWatch, MeasuringError, PassShape};

/// Ratio of the slowest and the fastest repeat of a shape from which on they disagree.
const SPREAD_MAX: f64 = 1.1;

/// Times that repeats which disagree are measured again.
const AGAIN_MAX: u32 = 3;

/// Most timed micro-batches of a repeat.
const PASSES_MAX: f64 = 10_000.0;

/// Shape with what was measured of it.
pub(super) struct Cell {
    pub shape: PassShape,
    /// Timed micro-batches of a repeat.
    passes: usize,
    /// [s] -- Time of the micro-batch at the first try, by which progress is counted.
    first_seconds: f64,
    pub peak_memory: Option<u64>,
    pub repeats: Vec<Repeat>,
}

impl Cell {
    /// [s] -- Returns the least and the greatest time of a micro-batch.
    fn range(&self) -> (f64, f64) {
        let mut least = f64::INFINITY;
        let mut greatest: f64 = 0.0;
        for repeat in &self.repeats {
            least = least.min(repeat.micro_batch);
            greatest = greatest.max(repeat.micro_batch);
        }
        (least, greatest)
    }

    /// [processors] -- Returns what other programs took meanwhile.
    fn others(&self) -> f64 {
        OtherPrograms::processors(self.repeats.iter().map(|repeat| repeat.others))
    }

    /// Returns whether the repeats agree and other programs left the machine alone.
    fn is_settled(&self, allowed: f64) -> bool {
        let (least, greatest) = self.range();
        greatest <= SPREAD_MAX * least && self.others() <= allowed
    }

    /// [s] -- Returns the expected time of a repeat.
    fn seconds(&self) -> f64 {
        (1 + self.passes) as f64 * self.first_seconds
    }
}

/// Measurement of a grid in progress.
pub(super) struct Measurement<'a> {
    bench: &'a Bench<'a>,
    options: &'a CalibrationOptions<'a>,
    watch: &'a mut dyn CalibrationWatch,
    cells: Vec<Cell>,
}

impl<'a> Measurement<'a> {
    /// Trains on each shape once, by ascending size, so that the greatest memory of a shape is its own and not what a larger one left.
    pub fn begin(
        bench: &'a Bench,
        grid: &Grid,
        options: &'a CalibrationOptions,
        watch: &'a mut dyn CalibrationWatch,
    ) -> Result<Self, MeasuringError> {
        watch.begin("trying each shape");
        let mut shapes = grid.points();
        shapes.extend(&grid.held_out);
        shapes.sort_by_key(|shape| (shape.tokens(), *shape));
        let of: u64 = shapes.iter().map(|shape| shape.tokens()).sum();
        let mut done = 0;
        let mut cells = Vec::with_capacity(shapes.len());
        for shape in shapes {
            let first = bench.first_try(shape)?;
            // As many micro-batches as fill the least time of a repeat.
            let passes = (options.least_seconds / first.seconds).ceil().clamp(1.0, PASSES_MAX) as usize;
            let peak_memory = first.peak_memory;
            cells.push(Cell { shape, passes, first_seconds: first.seconds, peak_memory, repeats: vec![] });
            done += shape.tokens();
            watch.done(done as f64 / of as f64);
        }
        Ok(Self { bench, options, watch, cells })
    }

    /// Measures all shapes, and those again whose repeats disagree.
    pub fn finish(mut self) -> Result<Vec<Cell>, MeasuringError> {
        self.watch.begin("measuring in rounds over all shapes");
        self.rounds(&(0..self.cells.len()).collect::<Vec<_>>())?;
        if !self.options.even_if_busy {
            self.settle()?;
        }
        Ok(self.cells)
    }

    /// Measures the shapes at `places` in rounds.
    fn rounds(&mut self, places: &[usize]) -> Result<(), MeasuringError> {
        let of_round: f64 = places.iter().map(|&place| self.cells[place].seconds()).sum();
        let of = f64::from(self.options.repeats) * of_round;
        let mut done = 0.0;
        for _ in 0..self.options.repeats {
            for &place in places {
                let cell = &mut self.cells[place];
                cell.repeats.push(self.bench.repeat(cell.shape, cell.passes)?);
                done += cell.seconds();
                self.watch.done(done / of);
            }
        }
        Ok(())
    }

    /// Measures shapes again whose repeats disagree, or during which other programs were busy.
    fn settle(&mut self) -> Result<(), MeasuringError> {
        let allowed = ProcessorTime::now().map_or(f64::INFINITY, |time| time.allowed());
        for _ in 0..AGAIN_MAX {
            let places = 0..self.cells.len();
            let unsettled: Vec<usize> = places.filter(|&place| !self.cells[place].is_settled(allowed)).collect();
            if unsettled.is_empty() {
                return Ok(());
            }
            self.watch.begin(&format!("measuring {} shapes again, whose repeats disagree", unsettled.len()));
            // All repeats go, and not only the slowest: to keep the fastest would say that the machine is faster than it is.
            for &place in &unsettled {
                self.cells[place].repeats.clear();
            }
            self.rounds(&unsettled)?;
        }
        let Some(cell) = self.cells.iter().find(|cell| !cell.is_settled(allowed)) else { return Ok(()) };
        let (least, greatest) = cell.range();
        let others = cell.others();
        Err(MeasuringError::Unsteady { shape: cell.shape, least, greatest, others, times: AGAIN_MAX })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::process::{Child, Command};
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::model::Device;
    use crate::scenario::Scenario;

    fn options(stop: &AtomicBool) -> CalibrationOptions<'_> {
        CalibrationOptions {
            rows: vec![2],
            lengths: vec![8, 16],
            ranks: vec![4],
            held_out: 1,
            repeats: 2,
            least_seconds: 0.2,
            workers: 1,
            threads: 1,
            device: Device::Cpu,
            even_if_busy: false,
            stop,
        }
    }

    /// Measures the tiny base.
    fn measured(options: &CalibrationOptions) -> Result<Vec<Cell>, MeasuringError> {
        let project = Path::new(env!("CARGO_MANIFEST_DIR"));
        let scenario = Scenario::read(&project.join("scenarios/quickstart.ron"), &[]).expect("a scenario");
        let grid = Grid::new(&scenario.scenario, options).expect("a grid");
        let bench = Bench::load(&scenario, &project.join("fixtures/tiny-base"), &grid, options).expect("a base");
        Measurement::begin(&bench, &grid, options, &mut ())?.finish()
    }

    /// Programs that keep a processor busy each, until they are dropped.
    struct Others(Vec<Child>);

    impl Others {
        fn start(count: usize) -> Self {
            let spin = || Command::new("sh").args(["-c", "while :; do :; done"]).spawn().expect("a shell");
            Self((0..count).map(|_| spin()).collect())
        }
    }

    impl Drop for Others {
        fn drop(&mut self) {
            for child in &mut self.0 {
                child.kill().expect("it runs until then");
                child.wait().expect("a child");
            }
        }
    }

    fn cell(micro_batches: &[f64], others: f64) -> Cell {
        let others = OtherPrograms { seconds: others, elapsed: 1.0 };
        let repeats = micro_batches.iter().map(|&micro_batch| Repeat { micro_batch, update: 0.1, others }).collect();
        let shape = PassShape { rows: 1, length: 8, rank: 4 };
        Cell { shape, passes: 4, first_seconds: 2.0, peak_memory: None, repeats }
    }

    #[test]
    fn repeats_agree_within_a_tenth_on_an_idle_machine() {
        assert!(cell(&[1.0, 1.09, 1.05], 0.09).is_settled(0.1));
        assert!(!cell(&[1.0, 1.11, 1.05], 0.0).is_settled(0.1));
        assert!(!cell(&[1.0, 1.0], 0.11).is_settled(0.1));
        assert_eq!(cell(&[2.0, 3.0, 1.0], 0.0).range(), (1.0, 3.0));
        // One micro-batch that is not timed, and four.
        assert_eq!(cell(&[], 0.0).seconds(), 10.0);
    }

    #[test]
    fn a_machine_that_stays_busy_is_said_to_be_so_after_three_more_tries() {
        let table = fs::read_to_string("/proc/stat").expect("the system's table");
        let processors = table.lines().filter(|line| line.starts_with("cpu")).count() - 1;
        if std::thread::available_parallelism().map_or(1, usize::from) < processors / 20 + 1 {
            return eprintln!("not checked: this process may not take enough of its processors");
        }
        let _others = Others::start(processors / 20 + 2);
        match measured(&options(&AtomicBool::new(false))) {
            Err(MeasuringError::Unsteady { times: 3, least, greatest, .. }) => {
                assert!(0.0 < least && least <= greatest)
            }
            Err(error) => panic!("{error}"),
            Ok(_) => panic!("the machine was taken for an idle one"),
        }
    }

    #[test]
    fn a_busy_machine_is_measured_once_where_that_is_asked_for() {
        let stop = AtomicBool::new(false);
        let cells = measured(&CalibrationOptions { even_if_busy: true, workers: 2, ..options(&stop) });
        let cells = cells.expect("a measurement");
        let shapes: Vec<_> = cells.iter().map(|cell| (cell.shape.rows, cell.shape.length)).collect();
        assert_eq!(shapes, [(2, 8), (2, 12), (2, 16)]);
        assert!(cells.iter().all(|cell| cell.repeats.len() == 2 && cell.peak_memory.is_none()));
        assert!(
            cells.iter().flat_map(|cell| &cell.repeats).all(|repeat| repeat.micro_batch > 0.0 && repeat.update > 0.0)
        );
    }

    #[test]
    fn a_measurement_ends_when_it_is_asked_to() {
        let stop = AtomicBool::new(true);
        assert!(matches!(measured(&options(&stop)), Err(MeasuringError::Interrupted)));
    }
}
