//! Carbon of tasks: the energy that a device spends in each phase, times the intensity of its electricity grid at that time.
//!
//! The energy of a phase counts as spent evenly over the phase, so that a phase gets the mean intensity over its time.

use fedreplay_sim::TaskRecord;

use super::grid::{GridIntensity, Grids};
use super::placement::Placed;
use crate::scenario::CarbonSpec;

/// Reason why the grids do not fit a scenario's clients, with the file and the field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to use {file}: {message}")]
pub struct CarbonError {
    file: String,
    message: String,
}

/// Grids of a scenario's clients.
#[derive(Clone, Debug)]
pub struct Carbon {
    /// [ns] -- Time of the grids at which virtual time begins.
    starts_at: u64,
    /// Grid of the clients in each row of [`Placed::regions`]; `None` for regions without clients.
    of_regions: Vec<Option<GridIntensity>>,
    /// Grid of clients without a region; `None` if there are none.
    of_others: Option<GridIntensity>,
}

impl Carbon {
    /// Finds the grid of each client.
    ///
    /// # Errors
    /// If virtual time begins after the end of a grid, or a client's region has none.
    pub fn new(spec: &CarbonSpec, grids: &Grids, placed: &Placed) -> Result<Self, CarbonError> {
        if let Some(hours) = grids.hours_before(spec.starts_at.0) {
            return Err(refused(
                grids,
                format!("carbon.starts_at, {}, is not within its {hours} hours", spec.starts_at),
            ));
        }
        let for_all = grids.by_region.get(&None);
        let default = match &spec.default_region {
            Some(region) if for_all.is_some() => {
                let message = format!("carbon.default_region is \"{region}\", and the table has no column region");
                return Err(refused(grids, message));
            }
            Some(region) => Some(grid_of(grids, "carbon.default_region", region)?),
            None => for_all,
        };
        // Clients of one region share a grid, so that a million clients need no more than the regions do.
        let mut carbon =
            Self { starts_at: spec.starts_at.0, of_regions: vec![None; placed.regions.len()], of_others: None };
        for (client, place) in placed.places.iter().enumerate() {
            match place.region.map(|region| region as usize) {
                Some(region) if carbon.of_regions[region].is_none() => {
                    let grid = grid_of(grids, "carbon.intensity", &placed.regions[region])?;
                    carbon.of_regions[region] = Some(grid.clone());
                }
                None if carbon.of_others.is_none() => {
                    let Some(grid) = default else {
                        let message = format!("client {client} has no region, and carbon.default_region is not given");
                        return Err(refused(grids, message));
                    };
                    carbon.of_others = Some(grid.clone());
                }
                _ => {}
            }
        }
        Ok(carbon)
    }

    /// [µg] -- Returns the carbon of a task of a client in this region, cut to a whole number.
    pub fn of_task(&self, task: &TaskRecord, region: Option<u32>) -> u64 {
        let grid = match region {
            Some(region) => &self.of_regions[region as usize],
            None => &self.of_others,
        };
        let grid = grid.as_ref().expect("every client has a grid");
        let ended = task.ended_at;
        // A phase that was not finished lasts until the end of the task, and those after it have neither time nor energy.
        let down = task.download_done_at.map_or(ended, |at| at.min(ended));
        let trained = task.training_done_at.map_or(ended, |at| at.min(ended)).max(down);
        let phases = [
            (task.dispatched_at, down, task.download_mj),
            (down, trained, task.training_mj),
            (trained, ended, task.upload_mj),
        ];
        let mut sum = 0;
        for (from, until, energy_mj) in phases {
            let [from, until] = [from, until].map(|at| u128::from(at.0) + u128::from(self.starts_at));
            sum += u128::from(energy_mj) * grid.mean(from, until);
        }
        // [mJ * µg/kWh] to [µg]
        u64::try_from(sum / MJ_PER_KWH).unwrap_or(u64::MAX)
    }
}

/// [mJ/kWh]
const MJ_PER_KWH: u128 = 3_600_000_000;

/// Returns the grid of a region, which a field asks for.
fn grid_of<'a>(grids: &'a Grids, field: &str, region: &str) -> Result<&'a GridIntensity, CarbonError> {
    let own = grids.by_region.get(&Some(region.to_owned()));
    grids.by_region.get(&None).or(own).ok_or_else(|| {
        let known: Vec<&str> = grids.by_region.keys().flatten().map(String::as_str).collect();
        refused(grids, format!("{field}: column region lacks \"{region}\"; it has {}", known.join(", ")))
    })
}

fn refused(grids: &Grids, message: String) -> CarbonError {
    CarbonError { file: grids.file.clone(), message }
}

#[cfg(test)]
mod tests {
    use fedreplay_sim::{Outcome, TaskId, Time};

    use super::*;
    use crate::scenario::Duration;
    use crate::schedule::Place;

    const SECOND: u64 = 1_000_000_000;

    /// A task with phases that end at these seconds, and with their energies [mJ].
    fn task(ends: [Option<u64>; 2], [begun, ended]: [u64; 2], energies: [u64; 3]) -> TaskRecord {
        let at = |seconds: u64| Time(seconds * SECOND);
        TaskRecord {
            task: TaskId(0),
            client: 0,
            round: 0,
            aggregator: 0,
            client_task_number: 0,
            based_on_version: 0,
            dispatched_at: at(begun),
            download_done_at: ends[0].map(at),
            training_done_at: ends[1].map(at),
            upload_done_at: None,
            ended_at: at(ended),
            outcome: Outcome::Counted,
            counted_in_version: None,
            staleness: 0,
            bytes_down: 0,
            bytes_up: 0,
            wire_bytes_down: 0,
            wire_bytes_up: 0,
            compute_flops: 0,
            training_ns: 0,
            energy_mj: energies.iter().sum(),
            download_mj: energies[0],
            training_mj: energies[1],
            upload_mj: energies[2],
        }
    }

    /// 100 g/kWh at midnight, and 10 more with each hour.
    fn rising() -> GridIntensity {
        GridIntensity::new(3_600 * SECOND, (0..24).map(|hour| (100 + 10 * hour) * 1_000_000).collect())
    }

    fn spec(starts_at_h: u64, default_region: Option<&str>) -> CarbonSpec {
        let starts_at = Duration(starts_at_h * 3_600 * SECOND);
        CarbonSpec { intensity: "grid.csv".into(), starts_at, default_region: default_region.map(str::to_owned) }
    }

    fn grids(regions: &[Option<&str>]) -> Grids {
        let by_region = regions.iter().map(|region| (region.map(str::to_owned), rising())).collect();
        Grids { file: "grid.csv".into(), by_region }
    }

    /// Clients in these regions, of `a` and `b`.
    fn placed(regions: &[Option<u32>]) -> Placed {
        let place = |&region| Place { device: 0, link: 0, dropout: 0, availability: 0, region };
        Placed {
            regions: vec!["a".into(), "b".into()],
            places: regions.iter().map(place).collect(),
            ..Placed::default()
        }
    }

    /// Expected figures: numpy means over the seconds of each phase, `((100 + 10 * hour) * energy / 3.6e9).sum()` in µg, with virtual time
    /// from 22:00. The first task downloads from 23:50:40 to 00:10:00, trains until 03:30:00 and uploads until 03:45:00. The second has
    /// its model at once, at 23:50:40, and ends a day later; the third ended during its download.
    #[test]
    fn phases_over_hours_and_midnight_have_their_mean_intensity() {
        let carbon = Carbon::new(&spec(22, None), &grids(&[None]), &placed(&[None, Some(1)])).expect("a grid");
        let whole = task([Some(7_800), Some(19_800)], [6_640, 20_700], [7_200_000, 40_000_000, 1_000_001]);
        assert_eq!(carbon.of_task(&whole, None), 1_719_291);
        assert_eq!(carbon.of_task(&whole, Some(1)), 1_719_291);
        let day = task([Some(6_640), Some(93_040)], [6_640, 93_040], [3_600_000, 1_800_000, 0]);
        assert_eq!(carbon.of_task(&day, None), 437_500);
        let broken = task([None, None], [6_640, 7_800], [7_200_000, 0, 0]);
        assert_eq!(carbon.of_task(&broken, None), 422_068);
        // The trace repeats, also after many periods.
        let later =
            task([Some(7_800 + 864_000_000), None], [6_640 + 864_000_000, 7_800 + 864_000_000], [7_200_000, 0, 0]);
        assert_eq!(carbon.of_task(&later, None), 422_068);
    }

    #[test]
    fn every_client_has_a_grid_or_is_refused() {
        let refused = |spec: &CarbonSpec, regions: &[Option<&str>], clients: &[Option<u32>]| {
            Carbon::new(spec, &grids(regions), &placed(clients)).expect_err("no grid").to_string()
        };
        let two = [Some("a"), Some("c")];
        assert!(Carbon::new(&spec(0, Some("c")), &grids(&two), &placed(&[Some(0), None])).is_ok());
        assert!(Carbon::new(&spec(23, None), &grids(&two), &placed(&[Some(0)])).is_ok());
        for (spec, regions, clients, said) in [
            (spec(0, None), &two[..], &[Some(1)][..], "carbon.intensity: column region lacks \"b\"; it has a, c"),
            (spec(0, Some("d")), &two, &[Some(0)], "carbon.default_region: column region lacks \"d\"; it has a, c"),
            (spec(0, None), &two, &[Some(0), None], "client 1 has no region, and carbon.default_region is not given"),
            (
                spec(0, Some("a")),
                &[None],
                &[None],
                "carbon.default_region is \"a\", and the table has no column region",
            ),
            (spec(24, None), &[None], &[None], "carbon.starts_at, 1 d, is not within its 24 hours"),
        ] {
            assert_eq!(refused(&spec, regions, clients), format!("failed to use grid.csv: {said}"));
        }
    }
}
