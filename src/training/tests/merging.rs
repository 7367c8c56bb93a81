//! An adapter folded into its base computes what it computed beside it.

use tch::Kind;

use super::*;
use crate::model::{Base, Merge, merge};

#[test]
fn merged_is_unmerged_and_taking_out_returns_the_base() {
    for config in configs() {
        let [base, merged, returned] = [(); 3].map(|()| tempfile::tempdir().unwrap());
        write_model(base.path(), &config);
        let load = |folder: &Path| {
            Trainer::load(folder, Precision::F32, Device::Cpu, &lora(&["all-linear"]), &Numerics::default()).unwrap()
        };
        let trainer = load(base.path());
        let adapter = adapter(&trainer, 3);
        assert_ne!(adapter.layout.scale(), 1.0);
        merge(base.path(), &adapter, Merge::In, None, merged.path()).unwrap();
        merge(merged.path(), &adapter, Merge::Out, None, returned.path()).unwrap();
        let ids = &sample(&config, 40, 1, 1).ids;
        let logits = |trainer: &Trainer, adapter: &Adapter| trainer.logits(adapter, ids).unwrap().to_kind(Kind::Double);
        let zeros = Adapter::zeros(trainer.layout());
        let (beside, inside) = (logits(&trainer, &adapter), logits(&load(merged.path()), &zeros));
        let most = |tensor: &tch::Tensor| f64::try_from(tensor.abs().max()).unwrap();
        assert!(most(&(&beside - &inside)) < 1e-5 * most(&beside), "{:?}", config.architecture);
        assert!(most(&(&beside - &logits(&trainer, &zeros))) > 1e-2 * most(&beside), "the adapter does nothing");
        let weights = |folder: &Path| {
            Base::load(folder, Precision::F32, Device::Cpu).unwrap().blocks.remove(1).gate_up.expanded().unwrap()
        };
        assert!(most(&(weights(base.path()) - weights(returned.path()))) < 1e-7);
    }
}
