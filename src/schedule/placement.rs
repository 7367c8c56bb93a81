//! Placement of clients: each is assigned to a group by the groups' shares, and a trace may then replace its properties.

use std::collections::{BTreeMap, BTreeSet};

use fedreplay_sim::{Purpose, Seed, Stream};
use serde::Serialize;

use super::PlacementError;
use super::trace::{Trace, TraceRow};
use crate::scenario::schema::{Network, Protocol, ScenarioSpec};
use crate::scenario::{Bandwidth, Bytes, Duration, Rate, Speed, regions, schema};

/// Device class with the crashes of its group.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DeviceClass {
    pub name: String,
    pub device: schema::DeviceClassSpec,
    pub crashes: Option<schema::Crashes>,
}

/// Link class.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LinkClass {
    pub name: String,
    pub link: schema::Link,
}

/// Row numbers of one client in the tables of classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub device: u32,
    pub link: u32,
    pub dropout: u32,
    pub availability: u32,
    /// Index into [`Placed::regions`].
    pub region: Option<u32>,
}

/// Clients as indices into tables of classes. The first rows of each table are those of the groups, by number.
#[derive(Clone, Debug, Default)]
pub struct Placed {
    pub devices: Vec<DeviceClass>,
    pub links: Vec<LinkClass>,
    pub dropouts: Vec<schema::Dropout>,
    pub availabilities: Vec<schema::Availability>,
    /// Regions of edges as written, then of the network, of groups and of the trace.
    pub regions: Vec<String>,
    /// One row per client.
    pub places: Vec<Place>,
}

impl Placed {
    /// Places the clients of a scenario; `name` returns a client's name in the data.
    ///
    /// # Errors
    /// If the trace names a client that the data lacks or the other way round, or an unknown class or region, or if a
    /// client has no device or no link.
    pub fn new(
        scenario: &ScenarioSpec,
        clients: usize,
        name: impl Fn(usize) -> String,
        trace: &Trace,
    ) -> Result<Self, PlacementError> {
        Self::place(scenario, clients, name, trace).map_err(PlacementError)
    }

    fn place(
        scenario: &ScenarioSpec,
        clients: usize,
        name: impl Fn(usize) -> String,
        trace: &Trace,
    ) -> Result<Self, String> {
        // Each client starts from the classes of its group; the trace may give it others, which are appended to the
        // tables.
        let mut placement = Self::of_groups(scenario);
        let groups = groups(scenario, clients);
        let rows = rows_by_client(clients, &name, trace)?;
        check_online(clients, &name, trace)?;
        let is_traced = rows.is_some() || !trace.online.is_empty();
        let mut interner = Interner::default();
        let nothing = TraceRow::default();
        placement.places.reserve(clients);
        for client in 0..clients {
            let mut place = match &groups {
                Some(groups) => placement.place_of_group(scenario, groups[client]),
                // Without groups every class is unknown until the trace gives it, which an index beyond any table marks.
                None => {
                    Place { device: u32::MAX, link: u32::MAX, dropout: u32::MAX, availability: u32::MAX, region: None }
                }
            };
            if !is_traced {
                placement.places.push(place);
                continue;
            }
            let name = name(client);
            let row = rows.as_ref().map(|rows| rows[client]).unwrap_or(&nothing);
            let online = trace.online.get(&name);
            placement
                .apply(scenario, row, online, &mut place, &mut interner)
                .map_err(|fault| format!("failed to place client \"{name}\": {fault}"))?;
            placement.places.push(place);
        }
        placement.check_regions(scenario)?;
        Ok(placement)
    }

    /// Creates the tables with one row per group, and no client yet.
    fn of_groups(scenario: &ScenarioSpec) -> Self {
        let population = &scenario.population;
        let mut tables = Self { regions: regions(scenario), ..Self::default() };
        for group in &population.mix {
            let link = population.links[&group.link].clone();
            tables.devices.push(device_of_group(population, group));
            tables.links.push(LinkClass { name: group.link.clone(), link });
            tables.dropouts.push(group.dropout);
            tables.availabilities.push(group.availability.clone());
        }
        tables
    }

    fn place_of_group(&self, scenario: &ScenarioSpec, group: u32) -> Place {
        let region = scenario.population.mix[group as usize].region.as_ref().and_then(|name| self.region(name));
        Place { device: group, link: group, dropout: group, availability: group, region }
    }

    fn region(&self, name: &String) -> Option<u32> {
        self.regions.iter().position(|known| known == name).map(|index| index as u32)
    }

    /// Replaces the parts of a client's place that the trace gives.
    fn apply(
        &mut self,
        scenario: &ScenarioSpec,
        row: &TraceRow,
        online: Option<&schema::Availability>,
        place: &mut Place,
        interner: &mut Interner,
    ) -> Result<(), String> {
        if let Some(class) = traced_device(scenario, row, self.devices.get(place.device as usize))? {
            place.device = intern(&mut self.devices, &mut interner.devices, class);
        }
        if let Some(class) = traced_link(scenario, row, self.links.get(place.link as usize))? {
            place.link = intern(&mut self.links, &mut interner.links, class);
        }
        if let Some(dropout) = traced_dropout(row, self.dropouts.get(place.dropout as usize))? {
            place.dropout = intern(&mut self.dropouts, &mut interner.dropouts, dropout);
        }
        let availability = match online {
            Some(times) => Some(times.clone()),
            None if place.availability == u32::MAX => Some(schema::Availability::Always),
            None => None,
        };
        if let Some(availability) = availability {
            place.availability = intern(&mut self.availabilities, &mut interner.availabilities, availability);
        }
        if let Some(name) = &row.region {
            if self.region(name).is_none() {
                self.regions.push(name.clone());
            }
            place.region = self.region(name);
        }
        Ok(())
    }

    /// Checks that every client is in a known region, if the protocol or the network distinguishes regions, and that
    /// every cut is of a region with clients.
    fn check_regions(&self, scenario: &ScenarioSpec) -> Result<(), String> {
        // Edges define the regions of a hierarchical protocol, and otherwise the nodes of a topology do.
        let known: Option<BTreeSet<&String>> = match (&scenario.network, &scenario.server.protocol) {
            (_, Protocol::Hierarchical { edges, .. }) => Some(edges.iter().map(|edge| &edge.region).collect()),
            (Network::Topology { regions, .. }, _) => Some(regions.keys().collect()),
            _ => None,
        };
        let Some(known) = known else { return self.check_cuts(scenario) };
        for (client, place) in self.places.iter().enumerate() {
            let region = place.region.map(|region| &self.regions[region as usize]);
            if region.is_some_and(|region| known.contains(region)) {
                continue;
            }
            let list = known.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
            return Err(match region {
                Some(region) => format!("failed to place client {client}: no region `{region}`, only {list}"),
                None => format!("failed to place client {client}: its region must be one of {list}"),
            });
        }
        self.check_cuts(scenario)
    }

    fn check_cuts(&self, scenario: &ScenarioSpec) -> Result<(), String> {
        match scenario.region_cuts.iter().find(|cut| !self.regions.contains(&cut.region)) {
            Some(cut) => Err(format!("failed to cut region `{}`: no client is there", cut.region)),
            None => Ok(()),
        }
    }
}

/// Returns the device class of a group, whose own jitter replaces the variation of the named class.
fn device_of_group(population: &schema::Population, group: &schema::GroupSpec) -> DeviceClass {
    let mut device = population.devices[&group.device].clone();
    if let Some(jitter) = group.jitter {
        device.jitter = jitter;
        device.slowdown = None;
    }
    DeviceClass { name: group.device.clone(), device, crashes: group.crashes }
}

/// Returns the group of each client, or `None` if the scenario has no groups and leaves everything to the trace.
fn groups(scenario: &ScenarioSpec, clients: usize) -> Option<Vec<u32>> {
    let mix = &scenario.population.mix;
    if mix.is_empty() { None } else { Some(assign(Seed(scenario.seed), clients, mix)) }
}

/// Assigns clients to groups.
///
/// The sizes of the groups are their shares of the clients, rounded by the method of largest remainders; which clients
/// are in which group is a permutation drawn from the seed.
fn assign(seed: Seed, clients: usize, mix: &[schema::GroupSpec]) -> Vec<u32> {
    let total: f64 = mix.iter().map(|group| group.share).sum();
    let exact: Vec<f64> = mix.iter().map(|group| group.share / total * clients as f64).collect();
    let mut counts: Vec<usize> = exact.iter().map(|count| count.floor() as usize).collect();
    let mut by_remainder: Vec<usize> = (0..mix.len()).collect();
    // Ties go to the group that is named first: the sort is stable.
    by_remainder.sort_by(|&a, &b| exact[b].fract().total_cmp(&exact[a].fract()));
    let missing = clients - counts.iter().sum::<usize>().min(clients);
    for &group in by_remainder.iter().cycle().take(missing) {
        counts[group] += 1;
    }
    let mut groups: Vec<u32> = Vec::with_capacity(clients);
    for (group, &count) in (0u32..).zip(&counts) {
        groups.extend(std::iter::repeat_n(group, count));
    }
    // Rounding errors of the shares can make the floors add up to more than all clients.
    groups.truncate(clients);
    Stream::new(seed, Purpose::Population, 0).shuffle(&mut groups);
    groups
}

/// Returns the trace's row of each client: by name, else by index, else in order. `None` if the trace has no rows.
fn rows_by_client(
    clients: usize,
    name: impl Fn(usize) -> String,
    trace: &Trace,
) -> Result<Option<Vec<&TraceRow>>, String> {
    let Some(rows) = &trace.clients else { return Ok(None) };
    if rows.len() != clients {
        return Err(unusable(format!("it has {} clients, and the data {clients}", rows.len())));
    }
    // Each row must have a client and each client a row; equal numbers and unique names leave one direction to check.
    let mut named = BTreeMap::new();
    for row in rows {
        if let Some(id) = &row.client_id
            && named.insert(id.clone(), row).is_some()
        {
            return Err(unusable(format!("it has two rows of client \"{id}\"")));
        }
    }
    if named.is_empty() {
        return rows_by_index(clients, rows).map(Some);
    }
    let mut by_client = Vec::with_capacity(clients);
    for (index, client) in (0..clients).map(name).enumerate() {
        let Some(row) = named.remove(&client) else {
            return Err(unusable(format!("it has no row of client \"{client}\"")));
        };
        if let Some(other) = row.client
            && other != index as u64
        {
            return Err(unusable(format!("it calls client \"{client}\" number {other}, and the data number {index}")));
        }
        by_client.push(row);
    }
    Ok(Some(by_client))
}

/// Returns the row of each client by the index that the rows give, or in their order if none gives one.
fn rows_by_index(clients: usize, rows: &[TraceRow]) -> Result<Vec<&TraceRow>, String> {
    if rows.iter().all(|row| row.client.is_none()) {
        return Ok(rows.iter().collect());
    }
    // As many rows as clients and no index twice: every client then has its row.
    let mut by_client = vec![None; clients];
    for (row, number) in rows.iter().zip(1..) {
        let Some(index) = row.client else { return Err(unusable(format!("row {number} has no client"))) };
        let place = usize::try_from(index).ok().and_then(|index| by_client.get_mut(index));
        match place {
            Some(place @ None) => *place = Some(row),
            Some(Some(_)) => return Err(unusable(format!("it has two rows of client number {index}"))),
            None => {
                return Err(unusable(format!("row {number} is of client number {index}, and the data has {clients}")));
            }
        }
    }
    Ok(by_client.into_iter().flatten().collect())
}

fn unusable(fault: String) -> String {
    format!("failed to use population.trace: {fault}")
}

/// Checks that the data has every client whose times online the trace gives.
fn check_online(clients: usize, name: impl Fn(usize) -> String, trace: &Trace) -> Result<(), String> {
    if trace.online.is_empty() {
        return Ok(());
    }
    let known: BTreeSet<String> = (0..clients).map(name).collect();
    match trace.online.keys().find(|client| !known.contains(*client)) {
        Some(client) => Err(format!("failed to use population.trace.online: the data has no client \"{client}\"")),
        None => Ok(()),
    }
}

/// Returns the device class of a client with this row of the trace, or `None` if it is that of its group.
fn traced_device(
    scenario: &ScenarioSpec,
    row: &TraceRow,
    of_group: Option<&DeviceClass>,
) -> Result<Option<DeviceClass>, String> {
    let numbers = [row.flops_per_second, row.memory_bytes, row.memory_bandwidth_bytes_per_second];
    let floats = [row.jitter, row.busy_watts, row.idle_watts];
    if row.device.is_none() && numbers.iter().all(Option::is_none) && floats.iter().all(Option::is_none) {
        return match of_group {
            Some(_) => Ok(None),
            None => Err("neither its trace nor a group gives it a device".into()),
        };
    }
    // The class that the row names, or else the group's, with the crashes of the group. An unknown name starts a new
    // class.
    let mut class = match &row.device {
        None => {
            of_group.cloned().unwrap_or_else(|| DeviceClass { name: "traced".into(), device: blank(), crashes: None })
        }
        Some(name) => {
            let device = scenario.population.devices.get(name).cloned().unwrap_or_else(blank);
            DeviceClass { name: name.clone(), device, crashes: of_group.and_then(|class| class.crashes) }
        }
    };
    // Single values of the row replace those of the class.
    let device = &mut class.device;
    // A speed of the client's own replaces a measured profile.
    if let Some(speed) = row.flops_per_second {
        device.speed = Some(Speed(speed));
        device.profile = None;
    }
    device.memory = row.memory_bytes.map(Bytes).or(device.memory);
    device.memory_bandwidth = row.memory_bandwidth_bytes_per_second.map(Bandwidth).or(device.memory_bandwidth);
    if let Some(jitter) = row.jitter {
        device.jitter = jitter;
        device.slowdown = None;
    }
    device.busy_watts = row.busy_watts.unwrap_or(device.busy_watts);
    device.idle_watts = row.idle_watts.unwrap_or(device.idle_watts);
    if device.speed.is_none() && device.profile.is_none() {
        return Err(format!("no device `{}` is known, and its trace gives no flops_per_second", class.name));
    }
    Ok(Some(class))
}

/// Returns a device without any known value, which is incomplete without a speed.
fn blank() -> schema::DeviceClassSpec {
    schema::DeviceClassSpec {
        speed: None,
        profile: None,
        extrapolate: false,
        jitter: 0.0,
        slowdown: None,
        memory: None,
        memory_bandwidth: None,
        busy_watts: 0.0,
        idle_watts: 0.0,
    }
}

/// Returns a link without any known value; its capacities of 0 mark it as incomplete.
fn blank_link() -> schema::Link {
    schema::Link {
        down: Rate(0),
        up: Rate(0),
        latency: Duration(0),
        latency_jitter: None,
        stalls: None,
        transport: None,
        radio: None,
    }
}

/// Returns the link class of a client with this row of the trace, or `None` if it is that of its group.
fn traced_link(
    scenario: &ScenarioSpec,
    row: &TraceRow,
    of_group: Option<&LinkClass>,
) -> Result<Option<LinkClass>, String> {
    let numbers = [row.downlink_bits_per_second, row.uplink_bits_per_second, row.latency_ns];
    if row.link.is_none() && numbers.iter().all(Option::is_none) {
        return match of_group {
            Some(_) => Ok(None),
            None => Err("neither its trace nor a group gives it a link".into()),
        };
    }
    // As for devices: the named class or the group's, in which single values of the row replace those of the class.
    let (name, mut link) = match (&row.link, of_group) {
        (Some(name), _) => (name.clone(), scenario.population.links.get(name).cloned().unwrap_or_else(blank_link)),
        (None, Some(class)) => (class.name.clone(), class.link.clone()),
        (None, None) => ("traced".into(), blank_link()),
    };
    link.down = row.downlink_bits_per_second.map_or(link.down, Rate);
    link.up = row.uplink_bits_per_second.map_or(link.up, Rate);
    link.latency = row.latency_ns.map_or(link.latency, Duration);
    if link.down.0 == 0 || link.up.0 == 0 {
        return Err(format!("no link `{name}` is known, and its trace does not give both capacities above 0"));
    }
    Ok(Some(LinkClass { name, link }))
}

/// Returns the dropout of a client with this row of the trace, or `None` if it is that of its group.
fn traced_dropout(row: &TraceRow, of_group: Option<&schema::Dropout>) -> Result<Option<schema::Dropout>, String> {
    let traced = [row.dropout_before_training, row.dropout_during_training, row.dropout_after_training];
    if of_group.is_some() && traced.iter().all(Option::is_none) {
        return Ok(None);
    }
    let base = of_group.copied().unwrap_or_default();
    let dropout = schema::Dropout {
        before_training: traced[0].unwrap_or(base.before_training),
        during_training: traced[1].unwrap_or(base.during_training),
        after_training: traced[2].unwrap_or(base.after_training),
    };
    if dropout.before_training + dropout.during_training + dropout.after_training > 1.0 {
        return Err("its three shares of dropout add up to more than 1".into());
    }
    Ok(Some(dropout))
}

/// Index of the interned classes of each table, by their canonical bytes.
#[derive(Default)]
struct Interner {
    devices: BTreeMap<Vec<u8>, u32>,
    links: BTreeMap<Vec<u8>, u32>,
    dropouts: BTreeMap<Vec<u8>, u32>,
    availabilities: BTreeMap<Vec<u8>, u32>,
}

/// Returns the row of `class` in `table`, and appends it if it was not interned before.
fn intern<T: Serialize>(table: &mut Vec<T>, known: &mut BTreeMap<Vec<u8>, u32>, class: T) -> u32 {
    // Classes hold floats, which have no order: their serialized bytes serve as keys.
    let bytes = postcard::to_stdvec(&class).expect("a class can be written");
    *known.entry(bytes).or_insert_with(|| {
        table.push(class);
        (table.len() - 1) as u32
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mix(shares: &[f64]) -> Vec<schema::GroupSpec> {
        let group = |&share| schema::GroupSpec {
            share,
            device: "d".into(),
            link: "l".into(),
            region: None,
            jitter: None,
            availability: Default::default(),
            dropout: Default::default(),
            crashes: None,
        };
        shares.iter().map(group).collect()
    }

    #[test]
    fn groups_get_their_shares() {
        for (shares, clients, expected) in
            [(&[1.0, 1.0][..], 5, [3, 2, 0]), (&[0.5, 0.3, 0.2], 24, [12, 7, 5]), (&[1.0, 1e-9], 3, [3, 0, 0])]
        {
            let groups = assign(Seed(1), clients, &mix(shares));
            let count = |group| groups.iter().filter(|&&g| g == group).count();
            assert_eq!([count(0), count(1), count(2)], expected, "{shares:?}");
        }
        assert_ne!(assign(Seed(1), 24, &mix(&[1.0, 1.0])), assign(Seed(2), 24, &mix(&[1.0, 1.0])));
    }
}
