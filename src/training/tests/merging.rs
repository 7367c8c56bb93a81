//! An adapter folded into its base computes what it computed beside it, and so does a change of the base.

use tch::Kind;

use super::*;
use crate::model::{Arithmetic, Base, Merge, merge};
use crate::training::Optimizer;

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

#[test]
fn training_on_a_changed_base_is_that_on_the_merged_model() {
    // The weights of a quantized base are not touched: the merged model has the rounded weights and the change.
    let arithmetic = Arithmetic::F32;
    for (config, precision) in configs().into_iter().flat_map(|config| {
        [Precision::F32, Precision::Nf4 { arithmetic, double: false }].map(|precision| (config.clone(), precision))
    }) {
        let [base, merged] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        write_model(base.path(), &config);
        let load = |folder: &Path, precision: Precision| {
            Trainer::load(folder, precision, Device::Cpu, &lora(&["all-linear"]), &Numerics::default()).unwrap()
        };
        let trainer = load(base.path(), precision);
        let change = Some(base_change(&trainer));
        let rounding = (precision != Precision::F32).then_some(precision);
        let carrier = Adapter::zeros(trainer.layout()).on(change.clone());
        merge(base.path(), &carrier, Merge::In, rounding, merged.path()).unwrap();
        let on_merged = load(merged.path(), Precision::F32);
        let start = adapter(&trainer, 3);
        let carrying = Arc::new(Adapter::clone(&start).on(change));
        let ids = &sample(&config, 40, 1, 1).ids;
        let logits = |trainer: &Trainer, adapter: &Adapter| trainer.logits(adapter, ids).unwrap().to_kind(Kind::Double);
        let (beside, inside) = (logits(&trainer, &carrying), logits(&on_merged, &start));
        let most = |tensor: &tch::Tensor| f64::try_from(tensor.abs().max()).unwrap();
        assert!(most(&(&beside - &inside)) < 1e-5 * most(&inside), "{:?}", config.architecture);
        let without = logits(&trainer, &start);
        assert!(most(&(&beside - without)) > 1e-2 * most(&beside), "the change does nothing");
        let train = |trainer: &Trainer, adapter: &Arc<Adapter>| {
            let rows = vec![sample(&config, 40, 10, 2), sample(&config, 21, 5, 3)];
            // Gradient descent, so that small gradients stay small: AdamW makes steps of one size of them.
            let hyper = Hyper { optimizer: Optimizer::Sgd { momentum: 0.0 }, learning_rate: 0.1, ..Hyper::default() };
            trainer.train(&[job(adapter.clone(), vec![vec![rows]; 2], hyper)]).unwrap().remove(0)
        };
        let (beside, inside) = (train(&trainer, &carrying), train(&on_merged, &start));
        let apart = beside.adapter.difference(&inside.adapter).norm();
        assert!(apart < 1e-5 * inside.update_norm, "{:?}: {apart} of {}", config.architecture, inside.update_norm);
        for (beside, inside) in beside.losses.iter().zip(&inside.losses) {
            assert!((beside - inside).abs() < 1e-6 * inside, "{:?}: {beside} against {inside}", config.architecture);
        }
    }
}
