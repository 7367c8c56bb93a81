//! Parquet tables of the analyses. They are not part of a run's record.

use crate::ledger::table;

table! {
    /// One row per client.
    ClientDiversityRow, "clients" {
        client: u32, "index", "position of the client in its data file";
        client_id: String, "text", "name of the client in its data file";
        samples: u64, "rows", "rows of the client";
        main_language: String, "name", "language of most of its rows";
        instruction_mean: f64, "words or tokens", "mean length of what is asked";
        instruction_deviation: f64, "words or tokens", "population deviation of it";
        response_mean: f64, "words or tokens", "mean length of what is answered; of preferences, of the chosen answer";
        response_deviation: f64, "words or tokens", "population deviation of it";
        chosen_longer: Option<f64>, "1", "share of pairs whose chosen answer is the longer one, a tie counting half; null unless preference data";
        rejected_mean: Option<f64>, "words or tokens", "mean length of rejected answers; null unless preference data";
        lists: Option<f64>, "1", "share of pairs in which the chosen answer alone has a list, less that of the rejected alone; null unless preference data";
        ifd_mean: Option<f64>, "1", "mean instruction-following difficulty of its scored rows; null without a model";
        ifd_deviation: Option<f64>, "1", "population deviation of it";
        x: Option<f64>, "1", "place on the first principal component of clients' embeddings; null without embeddings";
        y: Option<f64>, "1", "place on the second";
    }
}

table! {
    /// One row per client and language.
    LanguageRow, "languages" {
        client: u32, "index", "position of the client in its data file";
        language: String, "name", "as its rows name it, or ISO 639-3 as detected; ? where neither is known";
        rows: u64, "rows", "rows in that language";
    }
}

table! {
    /// One row per opening of instructions.
    OpeningRow, "openings" {
        depth: u32, "words", "words of the opening";
        opening: String, "text", "its words in lower case; an opening stands behind the shorter one that it begins with";
        rows: u64, "rows", "rows that begin so";
        clients: u64, "clients", "clients that have such a row";
    }
}

table! {
    /// One row per scored row of the data.
    QualityRow, "quality" {
        client: u32, "index", "position of the client in its data file";
        row: u32, "index", "position of the row within its client";
        loss_given: f64, "nats/token", "mean loss of the answer after its instruction";
        loss_alone: f64, "nats/token", "mean loss of the answer alone";
        ifd: f64, "1", "the first over the second";
    }
}

table! {
    /// One row per unordered pair of clients.
    DistanceRow, "distances" {
        client: u32, "index", "position of a client in its data file";
        other: u32, "index", "position of a later one";
        distance: f64, "1", "cosine distance of their mean embeddings";
    }
}
