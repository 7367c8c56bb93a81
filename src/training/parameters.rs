//! One job's adapter on the device: values, gradient, and views of each matrix, grouped by the input that they share.
//!
//! Ranks are padded to 16 with zeros, which stay zero under every update rule here: products of fewer than 16 rows would
//! depend on the number of threads.

use std::sync::Arc;

use tch::{Kind, TchError, Tensor};

use super::pack::ROW_MULTIPLE;
use crate::adapter::{Adapter, Layout};
use crate::model::{Base, Config};

/// The inputs in a layer from which linear modules read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Site {
    /// The normalised input of attention: q, k and v.
    Attention,
    /// The attention's result: o.
    Output,
    /// The normalised input of the MLP: gate and up.
    Mlp,
    /// The gated product: down.
    Down,
}

/// Where the matrices of a layout lie in the flat vector on the device.
pub struct Placement {
    layout: Arc<Layout>,
    /// Values on the device, a multiple of 64.
    length: usize,
    /// The padded rank.
    rank: usize,
    /// For each layer and site, what is adapted there.
    groups: Vec<[Option<GroupPlace>; 4]>,
    /// For each module of the layout: offsets of A and B.
    offsets: Vec<(usize, usize)>,
}

struct GroupPlace {
    a: usize,
    inputs: usize,
    members: Vec<MemberPlace>,
}

struct MemberPlace {
    module: usize,
    b: usize,
    column: usize,
    outputs: usize,
}

impl Placement {
    /// Where `layout` lies for a model of shape `config`.
    pub fn new(layout: Arc<Layout>, config: &Config) -> Self {
        let rank = layout.rank.next_multiple_of(ROW_MULTIPLE);
        let mut placement =
            Self { length: 0, rank, groups: Vec::new(), offsets: vec![(0, 0); layout.modules.len()], layout };
        for layer in 0..config.layers {
            let group = |site| placement_members(&placement.layout, config, layer, site);
            let members = [Site::Attention, Site::Output, Site::Mlp, Site::Down].map(group);
            let places = members.map(|members| placement.place(members));
            placement.groups.push(places);
        }
        placement.length = placement.length.next_multiple_of(64);
        placement
    }

    /// Values of an adapter on the device, padding included.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Width of the low-rank products at a site, in the layer where it is largest.
    pub fn low_width(&self, site: Site) -> usize {
        let groups = self.groups.iter().filter_map(|sites| sites[site as usize].as_ref());
        groups.map(|group| group.members.len() * self.rank).max().unwrap_or(0)
    }

    /// The lowest layer that is adapted: nothing below it needs a gradient.
    pub fn lowest_layer(&self) -> usize {
        self.groups.iter().position(|sites| sites.iter().any(Option::is_some)).unwrap_or(0)
    }

    fn place(&mut self, mut members: Vec<MemberPlace>) -> Option<GroupPlace> {
        let inputs = self.layout.modules[members.first()?.module].in_features;
        let a = self.length;
        self.length += members.len() * self.rank * inputs;
        for (index, member) in members.iter_mut().enumerate() {
            member.b = self.length;
            self.length += member.outputs * self.rank;
            self.offsets[member.module] = (a + index * self.rank * inputs, member.b);
        }
        Some(GroupPlace { a, inputs, members })
    }

    /// An adapter's values on the base's device, in the master type.
    fn flat(&self, base: &Base, adapter: &Adapter) -> Result<Tensor, TchError> {
        let flat = Tensor::f_from_slice(&self.spread(adapter))?;
        flat.f_to_kind(base.precision.master_kind())?.f_to_device(base.device.torch())
    }

    /// The flat vector of an adapter's values.
    fn spread(&self, adapter: &Adapter) -> Vec<f32> {
        let mut flat = vec![0.0; self.length];
        self.for_rows(|inside, outside, width| {
            flat[inside..inside + width].copy_from_slice(&adapter.values[outside..outside + width]);
        });
        flat
    }

    /// The values of a flat vector in an adapter's order.
    fn gather<T: Copy + Default>(&self, flat: &[T]) -> Vec<T> {
        let mut values = vec![T::default(); self.layout.parameters()];
        self.for_rows(|inside, outside, width| {
            values[outside..outside + width].copy_from_slice(&flat[inside..inside + width]);
        });
        values
    }

    /// Calls `copy` with offset on the device, offset in an adapter, and length, for each contiguous piece.
    fn for_rows(&self, mut copy: impl FnMut(usize, usize, usize)) {
        let rank = self.layout.rank;
        let modules = self.layout.modules.iter().zip(self.layout.ranges()).zip(&self.offsets);
        for ((module, (a, b)), &(inside_a, inside_b)) in modules {
            copy(inside_a, a.start, rank * module.in_features);
            (0..module.out_features).for_each(|row| copy(inside_b + row * self.rank, b.start + row * rank, rank));
        }
    }
}

/// The modules of `layout` that read from `site` in `layer`, with the columns that they write.
fn placement_members(layout: &Layout, config: &Config, layer: usize, site: Site) -> Vec<MemberPlace> {
    let (queries, keys) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
    let names: &[(&str, usize)] = match site {
        Site::Attention => {
            &[("self_attn.q_proj", 0), ("self_attn.k_proj", queries), ("self_attn.v_proj", queries + keys)]
        }
        Site::Output => &[("self_attn.o_proj", 0)],
        Site::Mlp => &[("mlp.gate_proj", 0), ("mlp.up_proj", config.intermediate_size)],
        Site::Down => &[("mlp.down_proj", 0)],
    };
    let find = |&(name, column): &(&str, usize)| {
        let path = format!("model.layers.{layer}.{name}");
        let module = layout.modules.iter().position(|module| module.path == path)?;
        Some(MemberPlace { module, b: 0, column, outputs: layout.modules[module].out_features })
    };
    names.iter().filter_map(find).collect()
}

/// What is adapted at one site of one layer, as views into a job's flat vectors.
pub struct Group {
    /// The A of all members below each other, `[members * rank, in]`, in the compute type.
    pub a: Tensor,
    /// Its gradient.
    pub a_gradient: Tensor,
    /// The modules.
    pub members: Vec<Member>,
    /// The padded rank.
    pub rank: i64,
    /// What B A is multiplied by.
    pub scale: f64,
}

/// One module of a group.
pub struct Member {
    /// B, `[out, rank]`, in the compute type.
    pub b: Tensor,
    /// Its gradient.
    pub b_gradient: Tensor,
    /// First of the columns that it adds to.
    pub column: i64,
    /// Number of those columns.
    pub outputs: i64,
    /// Index in the layout: names its dropout masks.
    pub module: usize,
}

/// One job's adapter on the device.
pub struct Parameters {
    placement: Arc<Placement>,
    /// Master values, flat.
    pub values: Tensor,
    /// The same in the compute type; the very same tensor where the types agree.
    compute: Tensor,
    /// The gradient in the master type, flat.
    pub gradient: Tensor,
    groups: Vec<[Option<Group>; 4]>,
}

impl Parameters {
    /// Places an adapter on the base's device.
    pub fn new(placement: &Arc<Placement>, base: &Base, adapter: &Adapter) -> Result<Self, TchError> {
        let kind = base.precision.kind();
        let values = placement.flat(base, adapter)?;
        let compute = values.f_to_kind(kind)?;
        let gradient = values.f_zeros_like()?;
        let groups = placement
            .groups
            .iter()
            .map(|sites| {
                let [attention, output, mlp, down] = sites
                    .each_ref()
                    .map(|place| place.as_ref().map(|place| views(placement, place, &compute, &gradient)).transpose());
                Ok([attention?, output?, mlp?, down?])
            })
            .collect::<Result<_, TchError>>()?;
        Ok(Self { placement: placement.clone(), values, compute, gradient, groups })
    }

    /// What is adapted at `site` of `layer`.
    pub fn group(&self, layer: usize, site: Site) -> Option<&Group> {
        self.groups[layer][site as usize].as_ref()
    }

    /// Another adapter of the same layout, flat like the values.
    pub fn flat(&self, base: &Base, adapter: &Adapter) -> Result<Tensor, TchError> {
        self.placement.flat(base, adapter)
    }

    /// Forgets the gradient.
    pub fn clear_gradient(&mut self) -> Result<(), TchError> {
        self.gradient.f_zero_().map(drop)
    }

    /// Brings the compute copy up to date after an update of the values.
    pub fn refresh(&mut self) -> Result<(), TchError> {
        if self.compute.kind() != self.values.kind() {
            self.compute.f_copy_(&self.values)?;
        }
        Ok(())
    }

    /// The adapter as plain values.
    pub fn to_adapter(&self) -> Result<Adapter, TchError> {
        self.adapter_of(&self.values)
    }

    /// A vector that is flat like the values, as plain ones.
    pub fn adapter_of(&self, flat: &Tensor) -> Result<Adapter, TchError> {
        let flat = Vec::<f32>::try_from(flat.f_to_kind(Kind::Float)?)?;
        Ok(Adapter { layout: self.placement.layout.clone(), values: self.placement.gather(&flat) })
    }

    /// The values in an adapter's order, in full precision.
    #[cfg(test)]
    pub fn exact_values(&self) -> Vec<f64> {
        self.placement.gather(&Vec::<f64>::try_from(self.values.to_kind(Kind::Double)).unwrap())
    }
}

fn views(placement: &Placement, place: &GroupPlace, compute: &Tensor, gradient: &Tensor) -> Result<Group, TchError> {
    let rank = placement.rank as i64;
    let view = |flat: &Tensor, start: usize, rows: i64, columns: i64| {
        flat.f_narrow(0, start as i64, rows * columns)?.f_view([rows, columns])
    };
    let (rows, inputs) = (place.members.len() as i64 * rank, place.inputs as i64);
    let member = |member: &MemberPlace| {
        Ok(Member {
            b: view(compute, member.b, member.outputs as i64, rank)?,
            b_gradient: view(gradient, member.b, member.outputs as i64, rank)?,
            column: member.column as i64,
            outputs: member.outputs as i64,
            module: member.module,
        })
    };
    Ok(Group {
        a: view(compute, place.a, rows, inputs)?,
        a_gradient: view(gradient, place.a, rows, inputs)?,
        members: place.members.iter().map(member).collect::<Result<_, TchError>>()?,
        rank,
        scale: placement.layout.scale(),
    })
}
