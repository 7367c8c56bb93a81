//! Adapter of one job on the device: values, gradient, and views of each matrix, grouped by the input that they share.
//!
//! Ranks are padded with zeros to a multiple of 16, so that the tiles of products are full. The padding stays zero under every
//! update rule.

use std::ops::Range;
use std::sync::Arc;

use tch::{Kind, TchError, Tensor};

use super::pack::ROW_MULTIPLE;
use crate::adapter::{Adapter, Factors, Layout, Module, ModuleChange};
use crate::model::{Base, Config, sites};

/// Inputs of the linear modules of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Site {
    /// Normalized input of attention, read by q, k and v.
    Attention,
    /// Result of attention, read by o.
    Output,
    /// Normalized input of the MLP, read by gate and up.
    Mlp,
    /// Gated product, read by down.
    Down,
}

/// Positions of a layout's matrices in the flat vector on the device.
pub struct LoraPlacement {
    layout: Arc<Layout>,
    /// Length of the vector, a multiple of 64.
    length: usize,
    /// Padded rank.
    rank: usize,
    /// Adapted modules by layer and site.
    groups: Vec<[Option<GroupPlace>; 4]>,
    /// Offsets of A and B by module of the layout. R is after B, if there is one.
    offsets: Vec<(usize, usize)>,
}

/// Position of the modules that are adapted at one site of one layer.
struct GroupPlace {
    /// Offset of the A of all members, one below the other.
    a: usize,
    /// Width of the input.
    inputs: usize,
    members: Vec<MemberPlace>,
}

/// Position of one module.
struct MemberPlace {
    /// Index in the layout.
    module: usize,
    /// Offset of B.
    b: usize,
    /// First column of the site's output to which it adds.
    column: usize,
    /// Number of those columns.
    outputs: usize,
}

impl LoraPlacement {
    /// Lays out the matrices of `layout` for a model of shape `config`.
    pub fn new(layout: Arc<Layout>, config: &Config) -> Self {
        let rank = layout.rank.next_multiple_of(ROW_MULTIPLE);
        let mut placement =
            Self { length: 0, rank, groups: Vec::new(), offsets: vec![(0, 0); layout.modules.len()], layout };
        for layer in 0..config.layers {
            let places = [Site::Attention, Site::Output, Site::Mlp, Site::Down].map(|site| {
                let members = placement_members(&placement.layout, config, layer, site);
                placement.place(members)
            });
            placement.groups.push(places);
        }
        placement.length = placement.length.next_multiple_of(64);
        placement
    }

    /// Returns the number of an adapter's values on the device, including padding.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Returns the width of the low-rank products at a site, in the layer in which it is greatest.
    pub fn low_width(&self, site: Site) -> usize {
        let groups = self.groups.iter().filter_map(|sites| sites[site as usize].as_ref());
        groups.map(|group| group.members.len() * self.rank).max().unwrap_or(0)
    }

    /// Returns the lowest adapted layer; nothing below it needs a gradient.
    pub fn lowest_layer(&self) -> usize {
        self.groups.iter().position(|sites| sites.iter().any(Option::is_some)).unwrap_or(0)
    }

    /// Appends the matrices of a group to the vector. `None` if the group is empty.
    fn place(&mut self, mut members: Vec<MemberPlace>) -> Option<GroupPlace> {
        let inputs = self.layout.modules[members.first()?.module].in_features;
        // The A of all members come first and adjacent, so that one product computes all of their low-rank inputs.
        let a = self.length;
        self.length += members.len() * self.rank * inputs;
        for (index, member) in members.iter_mut().enumerate() {
            member.b = self.length;
            self.length += member.outputs * self.rank;
            if self.layout.has_core {
                self.length += self.rank * self.rank;
            }
            self.offsets[member.module] = (a + index * self.rank * inputs, member.b);
        }
        Some(GroupPlace { a, inputs, members })
    }

    /// Copies an adapter's values to the base's device, in the master type.
    fn flat(&self, base: &Base, adapter: &Adapter) -> Result<Tensor, TchError> {
        let flat = Tensor::f_from_slice(&self.spread(adapter))?;
        flat.f_to_kind(base.precision.master_kind())?.f_to_device(base.device.torch())
    }

    /// Returns the flat vector of an adapter's values.
    fn spread(&self, adapter: &Adapter) -> Vec<f32> {
        let mut flat = vec![0.0; self.length];
        self.for_rows(|inside, outside, width| {
            flat[inside..inside + width].copy_from_slice(&adapter.values[outside..outside + width]);
        });
        flat
    }

    /// Returns the values of a flat vector in an adapter's order, without padding.
    fn gather<T: Copy + Default>(&self, flat: &[T]) -> Vec<T> {
        let mut values = vec![T::default(); self.layout.parameters()];
        self.for_rows(|inside, outside, width| {
            values[outside..outside + width].copy_from_slice(&flat[inside..inside + width]);
        });
        values
    }

    /// Calls `copy` for each contiguous piece with its offset on the device, its offset in an adapter, and its length.
    fn for_rows(&self, mut copy: impl FnMut(usize, usize, usize)) {
        let rank = self.layout.rank;
        let modules = self.layout.modules.iter().zip(self.layout.ranges()).zip(&self.offsets);
        for (((module, (a, b)), &(inside_a, inside_b)), core) in modules.zip(self.layout.core_ranges()) {
            // A is [rank, in]: its padding is rows at the end. B is [out, rank]: each of its rows is padded, as are those of R.
            copy(inside_a, a.start, rank * module.in_features);
            for row in 0..module.out_features {
                copy(inside_b + row * self.rank, b.start + row * rank, rank);
            }
            let inside_core = inside_b + module.out_features * self.rank;
            for (row, start) in core.step_by(rank).enumerate() {
                copy(inside_core + row * self.rank, start, rank);
            }
        }
    }
}

/// Returns the modules of `layout` that read from `site` in `layer`, with the columns to which they add.
fn placement_members(layout: &Layout, config: &Config, layer: usize, site: Site) -> Vec<MemberPlace> {
    // The base computes the modules of a site in one product; the columns are those of its output.
    let mut members = Vec::new();
    let mut column = 0;
    for (name, _, outputs) in &sites(config)[site as usize] {
        let path = format!("model.layers.{layer}.{name}");
        if let Some(module) = layout.modules.iter().position(|module| module.path == path) {
            members.push(MemberPlace { module, b: 0, column, outputs: *outputs });
        }
        column += outputs;
    }
    members
}

/// Adapted modules at one site of one layer, as views into a job's flat vectors.
pub struct LoraGroup {
    /// A of all members, concatenated by rows, `[members * rank, in]`, in the compute type.
    pub a: Tensor,
    /// Gradient of `a`.
    pub a_gradient: Tensor,
    /// Modules.
    pub members: Vec<Member>,
    /// Padded rank.
    pub rank: i64,
    /// Factor of B A, or B R A.
    pub scale: f64,
    /// Whether the modules have R, and A and B are frozen.
    pub has_core: bool,
}

/// One module of a group.
pub struct Member {
    /// B, `[out, rank]`, in the compute type.
    pub b: Tensor,
    /// Gradient of `b`.
    pub b_gradient: Tensor,
    /// R between B and A; `None` in adapters without a core.
    pub core: Option<Core>,
    /// Gradient of the frozen weight, `[out, in]`, in the master type; `None` where it is not asked for.
    pub weight_gradient: Option<Tensor>,
    /// First column of the site's output to which the module adds.
    pub column: i64,
    /// Number of those columns.
    pub outputs: i64,
    /// Index in the layout, which identifies the dropout masks.
    pub module: usize,
    /// Change of the base's weight, which is not trained; `None` if it has none.
    pub change: Option<PlacedChange>,
}

/// Matrix R of a module whose product is B R A. It is the only one of the three that is trained.
pub struct Core {
    /// R, `[rank, rank]`, in the compute type.
    pub matrix: Tensor,
    /// Gradient of `matrix`.
    pub gradient: Tensor,
}

/// Change of a frozen weight, in the compute type.
pub enum PlacedChange {
    /// Sum of the products of columns `[rank, out]` and rows `[rank, in]`.
    Factors { columns: Tensor, rows: Tensor },
    /// All elements, `[out, in]`.
    Dense(Tensor),
}

/// Adapter of one job on the device.
pub struct Parameters {
    placement: Arc<LoraPlacement>,
    /// Flat vector of the master values.
    pub values: Tensor,
    /// Copy of the values in the compute type; the same tensor if the types are equal.
    compute: Tensor,
    /// Flat vector of the gradient in the master type.
    pub gradient: Tensor,
    groups: Vec<[Option<LoraGroup>; 4]>,
}

impl Parameters {
    /// Copies an adapter, and the change of the base that it belongs to, to the base's device.
    pub fn new(placement: &Arc<LoraPlacement>, base: &Base, adapter: &Adapter) -> Result<Self, TchError> {
        let kind = base.precision.kind();
        let values = placement.flat(base, adapter)?;
        // Converting to the same type returns the same tensor: the views then see every update of the values.
        let compute = values.f_to_kind(kind)?;
        let gradient = values.f_zeros_like()?;
        let mut groups = Vec::with_capacity(placement.groups.len());
        for sites in &placement.groups {
            let mut of_layer = [const { None }; 4];
            for (group, place) in of_layer.iter_mut().zip(sites) {
                if let Some(place) = place {
                    let mut views = views(placement, place, &compute, &gradient)?;
                    if let Some(change) = &adapter.base_change {
                        for member in &mut views.members {
                            let module = &placement.layout.modules[member.module];
                            member.change = placed(&change.modules[member.module], module, &compute)?;
                        }
                    }
                    *group = Some(views);
                }
            }
            groups.push(of_layer);
        }
        Ok(Self { placement: placement.clone(), values, compute, gradient, groups })
    }

    /// Returns the adapted modules at `site` of `layer`.
    pub fn group(&self, layer: usize, site: Site) -> Option<&LoraGroup> {
        self.groups[layer][site as usize].as_ref()
    }

    /// Returns the flat vector of another adapter of the same layout.
    pub fn flat(&self, base: &Base, adapter: &Adapter) -> Result<Tensor, TchError> {
        self.placement.flat(base, adapter)
    }

    /// Returns which values of the flat vector belong to other factors than these; `None` if none do.
    pub fn frozen(&self, base: &Base, trained: Factors) -> Result<Option<Tensor>, TchError> {
        if trained == Factors::Both {
            return Ok(None);
        }
        let mut others = Adapter::new(self.placement.layout.clone(), vec![1.0; self.placement.layout.parameters()]);
        trained.others().keep_only(&self.placement.layout, &mut others.values);
        self.flat(base, &others)?.f_to_kind(Kind::Bool).map(Some)
    }

    /// Sets the gradient to zero, in place.
    pub fn clear_gradient(&mut self) -> Result<(), TchError> {
        self.gradient.f_zero_().map(drop)
    }

    /// Makes passes add the gradients of the frozen weights of all adapted modules to sums, which begin at zero.
    pub fn sum_weight_gradients(&mut self) -> Result<(), TchError> {
        let kind = (self.gradient.kind(), self.gradient.device());
        for group in self.groups.iter_mut().flatten().flatten() {
            let inputs = group.a.size()[1];
            for member in &mut group.members {
                member.weight_gradient = Some(Tensor::f_zeros([member.outputs, inputs], kind)?);
            }
        }
        Ok(())
    }

    /// Returns the sums of the gradients of the frozen weights `[out, in]`, row-major, by module of the layout; none if they were not
    /// asked for.
    pub fn weight_gradients(&self) -> Result<Vec<Vec<f32>>, TchError> {
        let mut sums = vec![Vec::new(); self.placement.layout.modules.len()];
        for member in self.groups.iter().flatten().flatten().flat_map(|group| &group.members) {
            if let Some(gradient) = &member.weight_gradient {
                let flat = gradient.f_to_kind(Kind::Float)?.f_to_device(tch::Device::Cpu)?.f_flatten(0, -1)?;
                sums[member.module] = Vec::<f32>::try_from(flat)?;
            }
        }
        Ok(sums)
    }

    /// Updates the copy in the compute type, in place, after an update of the values.
    pub fn refresh(&mut self) -> Result<(), TchError> {
        if self.compute.kind() != self.values.kind() {
            self.compute.f_copy_(&self.values)?;
        }
        Ok(())
    }

    /// Copies the values to an adapter on the host.
    pub fn to_adapter(&self) -> Result<Adapter, TchError> {
        self.adapter_of(&self.values)
    }

    /// Copies a flat vector to an adapter on the host.
    pub fn adapter_of(&self, flat: &Tensor) -> Result<Adapter, TchError> {
        let flat = Vec::<f32>::try_from(flat.f_to_kind(Kind::Float)?)?;
        Ok(Adapter::new(self.placement.layout.clone(), self.placement.gather(&flat)))
    }

    /// Returns the values in an adapter's order, in full precision.
    pub fn exact_values(&self) -> Result<Vec<f64>, TchError> {
        let flat = self.values.f_to_kind(Kind::Double)?.f_to_device(tch::Device::Cpu)?;
        Ok(self.placement.gather(&Vec::<f64>::try_from(flat)?))
    }

    /// Returns the flat vector of the factors of [`Layout::size_gradient_factors`] at the values. Norms are summed on the host, in a
    /// fixed order.
    pub fn size_gradient_factors(&self, components: &Range<usize>) -> Result<Tensor, TchError> {
        let layout = &self.placement.layout;
        let factors = layout.size_gradient_factors(&self.exact_values()?, components);
        let flat = Tensor::f_from_slice(&self.placement.spread(&Adapter::new(layout.clone(), factors)))?;
        flat.f_to_kind(self.values.kind())?.f_to_device(self.values.device())
    }
}

/// Copies the change of a module's weight to the device and in the type of `like`; `None` if it has none. Factors are padded with
/// zeros as an adapter's are.
fn placed(change: &ModuleChange, module: &Module, like: &Tensor) -> Result<Option<PlacedChange>, TchError> {
    let copied = |values: &[f32], width: usize| {
        let rows = values.len() / width;
        let matrix = Tensor::f_from_slice(values)?.f_view([rows as i64, width as i64])?;
        matrix.f_to_kind(like.kind())?.f_to_device(like.device())
    };
    let padded = |values: &[f32], width: usize| {
        let rows = values.len() / width;
        let missing = rows.next_multiple_of(ROW_MULTIPLE) - rows;
        copied(values, width)?.f_constant_pad_nd([0, 0, 0, missing as i64])
    };
    Ok(match change {
        ModuleChange::Factors { rank: 0, .. } => None,
        ModuleChange::Factors { columns, rows, .. } => Some(PlacedChange::Factors {
            columns: padded(columns, module.out_features)?,
            rows: padded(rows, module.in_features)?,
        }),
        ModuleChange::Dense(values) => Some(PlacedChange::Dense(copied(values, module.in_features)?)),
    })
}

/// Returns a row-major matrix in a flat vector as a view.
fn view(flat: &Tensor, start: usize, rows: i64, columns: i64) -> Result<Tensor, TchError> {
    flat.f_narrow(0, start as i64, rows * columns)?.f_view([rows, columns])
}

/// Returns the R of a module as views into the flat vectors of values and gradient; `None` if it has none.
fn core(
    placement: &LoraPlacement,
    member: &MemberPlace,
    compute: &Tensor,
    gradient: &Tensor,
) -> Result<Option<Core>, TchError> {
    if !placement.layout.has_core {
        return Ok(None);
    }
    let rank = placement.rank as i64;
    let start = member.b + member.outputs * placement.rank;
    Ok(Some(Core { matrix: view(compute, start, rank, rank)?, gradient: view(gradient, start, rank, rank)? }))
}

/// Returns the matrices of a group as views into the flat vectors of values and gradient.
fn views(
    placement: &LoraPlacement,
    place: &GroupPlace,
    compute: &Tensor,
    gradient: &Tensor,
) -> Result<LoraGroup, TchError> {
    let rank = placement.rank as i64;
    let mut members = Vec::with_capacity(place.members.len());
    for member in &place.members {
        let outputs = member.outputs as i64;
        members.push(Member {
            b: view(compute, member.b, outputs, rank)?,
            b_gradient: view(gradient, member.b, outputs, rank)?,
            column: member.column as i64,
            core: core(placement, member, compute, gradient)?,
            weight_gradient: None,
            outputs,
            module: member.module,
            change: None,
        });
    }
    let rows = place.members.len() as i64 * rank;
    let inputs = place.inputs as i64;
    Ok(LoraGroup {
        a: view(compute, place.a, rows, inputs)?,
        a_gradient: view(gradient, place.a, rows, inputs)?,
        members,
        rank,
        scale: placement.layout.scale(),
        has_core: placement.layout.has_core,
    })
}
