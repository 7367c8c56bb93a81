//! The tables of a run. Their columns are an interface: other programs read them.

use fedreplay_sim::{Outcome, Tally};

use super::schema::table;
use super::values::{EvalSubject, RoundEnd, Split};

table! {
    /// One row per client: who takes part, with which data, device and link.
    PopulationRow, "population" {
        client: u32, "index", "position of the client in its data file";
        client_id: String, "text", "name of the client in its data file";
        train_rows: u64, "rows", "rows that the client trains on";
        held_out_rows: u64, "rows", "rows kept for the client's own evaluation";
        train_tokens: u64, "tokens", "tokens in the training rows, prompt included";
        device: String, "name", "device class";
        flops_per_second: u64, "FLOP/s", "effective speed of the device before jitter";
        memory_bytes: Option<u64>, "B", "memory that training may fill; null where it is not bounded";
        link: String, "name", "link class";
        downlink_bits_per_second: u64, "bit/s", "capacity from the server to the client";
        uplink_bits_per_second: u64, "bit/s", "capacity from the client to the server";
        latency_ns: u64, "ns", "one-way latency of the link before jitter";
        region: Option<String>, "name", "region of the network";
        task_flops: u64, "FLOP", "work of one task by the cost model";
        task_memory_bytes: u64, "B", "memory that a task needs at its peak by the cost model";
    }
}

table! {
    /// One row per event of virtual time, in the order in which the engine handled them.
    EventRow, "events" {
        at_ns: u64, "ns", "virtual time since the start of the run";
        kind: &'static str, "name", "what happened";
        round: Option<u32>, "index", "server round that it belongs to, from 1";
        client: Option<u32>, "index", "client concerned";
        task: Option<u64>, "index", "task concerned";
        bytes: u64, "B", "bytes that moved, at the end of a transfer, completed or not";
    }
}

table! {
    /// One row per dispatch: the times of its phases, the losses, and whether it counted.
    TaskRow, "tasks" {
        task: u64, "index", "number of the dispatch in the run";
        client: u32, "index", "client that was asked";
        client_task: u64, "index", "how many tasks the client had been given before this one";
        aggregator: u32, "index", "who asked: 0 is the server, else tier or edge, from 1";
        round: u32, "index", "round of the aggregator at the dispatch, from 1";
        based_on_version: u32, "index", "server model that the client started from; 0 is the initial adapter";
        dispatched_at_ns: u64, "ns", "virtual time of the dispatch";
        download_done_at_ns: Option<u64>, "ns", "virtual time at which the adapter had arrived";
        training_done_at_ns: Option<u64>, "ns", "virtual time at which local training was done";
        upload_done_at_ns: Option<u64>, "ns", "virtual time at which the update had arrived";
        ended_at_ns: u64, "ns", "virtual time at which the task's fate was sealed";
        outcome: Outcome, "name", "counted, or why not: late, stale, dropped_..., crashed, left, unreachable, out_of_memory, cancelled, discarded";
        fate: Tally, "name", "counted, late, dropped or cancelled: how rounds count the outcome";
        reason: Option<String>, "text", "why the weight of an update that counted is zero";
        counted_in_version: Option<u32>, "index", "server model that the update went into";
        staleness: Option<u32>, "versions", "server models made between dispatch and aggregation";
        bytes_down: u64, "B", "bytes received by the client; the most that they can be where they depend on what was trained";
        bytes_up: u64, "B", "bytes sent by the client; likewise";
        wire_bytes_down: u64, "B", "what `bytes_down` were on the wire, with the headers of the link's transport";
        wire_bytes_up: u64, "B", "what `bytes_up` were on the wire, likewise";
        compute_flops: u64, "FLOP", "operations that were done, by the cost model";
        training_ns: u64, "ns", "virtual time that the device trained";
        energy_mj: u64, "mJ", "energy spent by the device on the task";
        download_mj: u64, "mJ", "part of `energy_mj` until the model had arrived: waiting and receiving";
        training_mj: u64, "mJ", "part of `energy_mj` from then to the end of training";
        upload_mj: u64, "mJ", "part of `energy_mj` after training: waiting and sending; each part is rounded down by itself";
        carbon_ug: Option<u64>, "ug", "CO2 of the device's energy by the intensity of its electricity grid; null unless the scenario has `carbon`";
        steps: Option<u32>, "steps", "optimizer steps taken";
        tokens: Option<u64>, "tokens", "tokens processed, prompt included";
        target_tokens: Option<u64>, "tokens", "tokens that the loss was taken on";
        loss_first: Option<f64>, "nats/token or nats/pair", "training loss of the first step; per pair under preference training";
        loss_last: Option<f64>, "nats/token or nats/pair", "training loss of the last step; per pair under preference training";
        loss_mean: Option<f64>, "nats/token or nats/pair", "mean training loss over the steps; per pair under preference training";
        reward_margin: Option<f64>, "1", "mean over the steps of the chosen answers' rewards less the rejected ones'; null unless preference training";
        preference_accuracy: Option<f64>, "1", "mean over the steps of the share of pairs whose chosen answer has the higher reward; null unless preference training";
        update_norm: Option<f64>, "1", "L2 norm of the update over all adapter tensors";
        rank_before: Option<u32>, "components", "rank that the client began the task with; null unless clients prune their ranks";
        rank_after: Option<u32>, "components", "rank that the client has after the task, and of what it has sent; null unless clients prune their ranks";
        weight: Option<f64>, "1", "share of the update in the aggregate";
        update_key: Option<String>, "BLAKE3", "hash of everything that the update depends on";
        update_hash: Option<String>, "BLAKE3", "hash of the update's content";
    }
}

table! {
    /// One row per round of the server, of a tier or of an edge, in the order in which they ended.
    RoundRow, "rounds" {
        round: u32, "index", "place among the rounds of all aggregators, from 1";
        aggregator: u32, "index", "whose round: 0 is the server, else tier or edge, from 1";
        aggregator_round: u32, "index", "round of this aggregator, from 1";
        version: u32, "index", "the aggregator's model after the round; unchanged when the round failed";
        base_version: u32, "index", "the model that the round replaced";
        merged_versions: Option<String>, "indices", "models of edges that the server merged, separated by spaces";
        opened_at_ns: u64, "ns", "virtual time of the round's start";
        closed_at_ns: u64, "ns", "virtual time of the round's end";
        status: RoundEnd, "name", "closed or failed";
        reason: Option<String>, "text", "why the round failed";
        dispatched: u32, "tasks", "tasks dispatched since the previous round's end";
        counted: u32, "tasks", "updates aggregated at the round's end";
        late: u32, "tasks", "tasks that ended late or stale";
        dropped: u32, "tasks", "tasks lost to dropouts, crashes, absence or memory";
        cancelled: u32, "tasks", "tasks called off, or discarded with a failed round";
        in_flight: u32, "tasks", "tasks still running at the round's end";
        bytes_down: u64, "B", "bytes from the server, of the tasks that ended";
        bytes_up: u64, "B", "bytes to the server, of the tasks that ended";
        wire_bytes_down: u64, "B", "what `bytes_down` were on the wire, with the headers of the links' transport";
        wire_bytes_up: u64, "B", "what `bytes_up` were on the wire, likewise";
        carbon_ug: Option<u64>, "ug", "sum of `carbon_ug` of the tasks that the round recorded; null unless the scenario has `carbon`";
        train_loss: Option<f64>, "nats/token or nats/pair", "weighted mean of the counted tasks' training losses; per pair under preference training";
        update_norm: Option<f64>, "1", "L2 norm of the aggregated update; null where the round has changed the base";
        aggregation_error: Option<f64>, "1", "distance of the aggregated product B A from the mean of the products that were aggregated, relative to that mean, over all modules; null with stale or discounted updates, with privacy, under a robust rule, and where no products are aggregated";
        kept_rank: Option<u32>, "components", "singular values of the mean of products that the round added to the base, over all modules; null unless the server cuts the mean by its energy";
        epsilon_spent: Option<f64>, "1", "privacy spent up to this round; null without differential privacy";
        model_key: Option<String>, "BLAKE3", "hash of everything that the model depends on; null in a plan";
        model_hash: Option<String>, "BLAKE3", "hash of the model's content; null in a plan";
        event_rows: u64, "rows", "rows that the round added to `events`";
        task_rows: u64, "rows", "rows that the round added to `tasks`";
        evaluation_rows: u64, "rows", "rows that the round added to `evaluations`";
        generation_rows: u64, "rows", "rows that the round added to `generations`";
        lineage_rows: u64, "rows", "rows that the round added to `lineage`";
        aggregation_rows: u64, "rows", "rows that the round added to `aggregation`";
        rows_digest: String, "BLAKE3", "hash of all rows of this round, without `rows_digest` and `digest`";
        digest: String, "BLAKE3", "chained digest of the run up to this round";
    }
}

table! {
    /// One row per measured loss or metric of a benchmark.
    EvaluationRow, "evaluations" {
        round: u32, "index", "round after which the model was evaluated; 0 is before any training";
        version: u32, "index", "server model that was evaluated, or that the client alone started from; 0 is the initial adapter";
        subject: EvalSubject, "name", "`global` for the server model, `local` for that of a client that trains alone, `personal` for a client's own: the server model with the factors that the client keeps, or the adapter that it trains next to it, `fine_tuned` for the last model after some steps on a client's rows, `base` for a model without adapter";
        client: Option<u32>, "index", "client whose rows or whose own model it is; null for the global test of the server model";
        benchmark: String, "name", "`losses` of the scenario's data, or the benchmark that the figure is of";
        split: Split, "name", "`test` or `held_out` rows; of a benchmark the part that the figure is of, `all` for the whole";
        rows: u64, "rows", "rows evaluated, or questions asked";
        failed: u64, "rows", "questions without an answer or a judgment, such as prompts that do not fit the context";
        score: Option<f64>, "1", "the benchmark's figure: accuracy of mmlu, pass rate of humaneval, rates of advbench, else the judge's mean rating from 1 to 10";
        target_tokens: u64, "tokens", "tokens that the loss was taken on";
        loss: Option<f64>, "nats/token or nats/pair", "mean loss over target tokens; over pairs of preference data; null if it was not finite";
        perplexity: Option<f64>, "1", "e to the power of the mean loss over target tokens; null of preference data";
        token_accuracy: Option<f64>, "1", "share of the target tokens that were the most likely ones; null of preference data";
        reward_margin: Option<f64>, "1", "mean over pairs of the chosen answer's reward less the rejected one's; null unless preference data";
        preference_accuracy: Option<f64>, "1", "share of pairs whose chosen answer has the higher reward; null unless preference data";
        model_hash: Option<String>, "BLAKE3", "hash of the evaluated adapter's content";
    }
}

table! {
    /// One row per answer of a model to a benchmark's question.
    GenerationRow, "generations" {
        round: u32, "index", "round after which the model answered; 0 is before any training";
        subject: EvalSubject, "name", "`global` for the server model, `local` for that of a client that trains alone, `personal` for a client's own: the server model with the factors that the client keeps, or the adapter that it trains next to it, `base` for a model without adapter";
        client: Option<u32>, "index", "client whose own model it is";
        benchmark: String, "name", "benchmark that the question is of";
        question: String, "text", "the question's name within the benchmark";
        category: String, "text", "category, language or subject of the question; empty where it has none";
        turn: u32, "index", "turn of the dialogue, from 1";
        prompt: String, "text", "what was asked, the template applied; of mmlu without the examples before the question";
        answer: Option<String>, "text", "what the model answered; null where the prompt did not fit the context";
        ended: String, "name", "end_of_sequence, stop, max_tokens, context_full, or letter of a multiple choice";
        tokens: u32, "tokens", "tokens generated";
        model_hash: Option<String>, "BLAKE3", "hash of the adapter's content; null for the base alone";
        judgement: Option<String>, "text", "what a judge wrote, or what came of the executed code, which `fedreplay eval` alone has; of advbench what its rules say";
        score: Option<f64>, "1", "rating, or 1 and 0 for right and wrong; null where there is none";
    }
}

table! {
    /// One row per order: what was computed from what. A row's key can be computed again from it and from the keys of its
    /// inputs.
    LineageRow, "lineage" {
        order: u64, "index", "place of the order in the plan, from 0; its inputs come before it";
        round: u32, "index", "round that it belongs to, from 1; what precedes all training belongs to the first, what clients train alone to the last";
        kind: &'static str, "name", "initial, given, train, cohort, member, control, moments, aggregate, evaluate or examine";
        inputs: Option<String>, "indices", "orders whose results it reads, once for each use, separated by spaces; null where it reads none";
        code: String, "name", "kind and version of the code that computes it";
        engine: Option<String>, "BLAKE3", "hash of base model and numerics; null where neither changes the result";
        parameters: String, "JSON", "everything else that can change the result; what is large stands as its hash";
        key: String, "BLAKE3", "hash of code, engine, parameters and the keys of the inputs";
        result: Option<String>, "BLAKE3", "hash of the result; null of orders of which no other table shows the result";
    }
}

table! {
    /// One row per adapted module of each round whose aggregation has an error: how far the module's aggregated product B A is
    /// from the mean of those that were aggregated.
    AggregationRow, "aggregation" {
        round: u32, "index", "place of the round among those of all aggregators, from 1";
        module: String, "text", "path of the module in the base model";
        norm: f64, "1", "Frobenius norm of the mean of the products, with LoRA's scale";
        error: Option<f64>, "1", "Frobenius norm of the difference of the aggregated product from this mean, relative to `norm`; null if the mean is zero";
        kept_rank: Option<u32>, "components", "singular values of this mean that the round added to the base; null unless the server cuts the mean by its energy";
    }
}

table! {
    /// One row per round of each repeat of a plan, in which jitter, latency, shares, dropout, availability and crashes are drawn again.
    RepeatRow, "repeats" {
        repeat: u32, "index", "number of the repeat; 0 has the draws of the scenario itself";
        round: u32, "index", "place among the rounds of all aggregators, from 1";
        aggregator: u32, "index", "whose round: 0 is the server, else tier or edge, from 1";
        opened_at_ns: u64, "ns", "virtual time of the round's start";
        closed_at_ns: u64, "ns", "virtual time of the round's end";
        status: RoundEnd, "name", "closed or failed";
        at_deadline: bool, "flag", "whether the deadline ended the round";
        counted: u32, "tasks", "updates aggregated at the round's end";
        late: u32, "tasks", "tasks that ended late or stale";
        dropped: u32, "tasks", "tasks lost to dropouts, crashes, absence or memory";
        cancelled: u32, "tasks", "tasks called off, or discarded with a failed round";
        wire_bytes_down: u64, "B", "bytes from the server on the wire, of the tasks that ended";
        wire_bytes_up: u64, "B", "bytes to the server on the wire, of the tasks that ended";
    }
}

table! {
    /// One row per executed order: wall-clock facts, outside of the digest.
    TimingRow, "orders" {
        order: u64, "index", "position of the order in the plan";
        kind: String, "name", "initial, given, train, cohort, member, control, moments, aggregate, evaluate or examine";
        key: String, "BLAKE3", "hash of everything that the order depends on";
        from_store: bool, "flag", "whether the result was found in the store instead of computed";
        seconds: f64, "s", "wall-clock time of the computation";
    }
}

table! {
    /// One row per client of a dataset: what `fedreplay data inspect` writes. It is no table of a run.
    ClientDataRow, "clients" {
        client: u32, "index", "position of the client in its data file";
        client_id: String, "text", "name of the client in its data file";
        samples: u64, "rows", "rows of the client";
        instruction_mean: f64, "words or tokens", "mean length of what is asked";
        instruction_deviation: f64, "words or tokens", "population deviation of it";
        response_mean: f64, "words or tokens", "mean length of what is answered; of preferences, of the chosen answer";
        response_deviation: f64, "words or tokens", "population deviation of it";
        languages: String, "text", "rows by their attribute `language`, as `fr:12 en:3`";
    }
}

/// Name of the losses in column `benchmark`.
pub const LOSSES: &str = "losses";
