//! One table as NDJSON and as CSV, row by row.

use std::path::Path;

use aws_lc_rs::digest::{Context, SHA256};
use diesel::sql_types::{Array, Nullable, Text};
use diesel_async::{RunQueryDsl, SimpleAsyncConnection};
use serde::{Deserialize, Serialize};
use tokio::fs::File;
use tokio::io::{AsyncWriteExt as _, BufWriter};
use uuid::Uuid;

use super::columns::{Column, Table};
use super::directory::create;
use crate::error::{ApiError, ApiResult};
use crate::fleet::backup::dump::moves;
use crate::fleet::backup::vault::{Part, Vault};
use crate::fleet::operation::Journal;
use crate::fleet::{refused, sql};
use crate::kernel::crypto::hex;
use crate::router::AdminConn;

/// Rows that are fetched at first: how long they are shows only once they are here.
const FIRST: usize = 4;
/// Rows that are fetched at a time at most.
const MOST: usize = 500;
/// Bytes that are fetched at a time, about; one row may be longer.
const ENOUGH: usize = 8 * 1024 * 1024;

/// A file of an export.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExportedFile {
    /// Its name, after its table.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// The SHA-256 of it.
    pub sha256: String,
}

/// A table of an export.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExportedTable {
    /// Its name, with its schema.
    pub table: String,
    /// How many rows.
    pub rows: u64,
    /// What of it was exported, in the order of the files.
    pub columns: Vec<Column>,
    /// The same rows in each form.
    pub files: Vec<ExportedFile>,
}

#[derive(diesel::QueryableByName)]
struct Row {
    #[diesel(sql_type = Text)]
    json: String,
    #[diesel(sql_type = Array<Nullable<Text>>)]
    cells: Vec<Option<String>>,
}

impl Row {
    /// About what it takes in memory, in both forms.
    fn bytes(&self) -> usize {
        self.cells.iter().flatten().map(String::len).sum::<usize>() + self.json.len()
    }
}

/// How many rows to fetch after so many of which the longest had so many bytes: as many such as are enough, and at most
/// twice as many as before, since longer ones may follow.
fn next_batch(batch: usize, longest: usize) -> usize {
    (ENOUGH / longest.max(1)).min(batch.saturating_mul(2)).clamp(1, MOST)
}

/// Where an export is written to.
#[derive(Clone, Copy)]
pub(super) enum Place<'a> {
    /// A directory of this machine.
    Directory(&'a Path),
    /// The storage, sealed: the files of a run, which no other run writes to.
    Vault(&'a Vault, Uuid),
}

/// What the vault calls a file of a run: no name of a table is part of it.
pub(super) fn part(run: Uuid, number: i64) -> String {
    format!("{run}/file-{number}")
}

enum Sink {
    File(BufWriter<File>),
    Part(Box<Part>),
}

/// A file that knows what was written to it.
struct Output {
    name: String,
    sink: Sink,
    bytes: u64,
    digest: Context,
}

impl Output {
    async fn create(place: Place<'_>, name: String, number: i64) -> ApiResult<Self> {
        let sink = match place {
            Place::Directory(directory) => {
                Sink::File(BufWriter::new(create(&directory.join(&name)).await.map_err(unwritten)?))
            }
            Place::Vault(vault, run) => Sink::Part(Box::new(vault.begin(&part(run, number))?)),
        };
        Ok(Self { name, sink, bytes: 0, digest: Context::new(&SHA256) })
    }

    async fn write(&mut self, bytes: &[u8]) -> ApiResult<()> {
        self.digest.update(bytes);
        self.bytes += bytes.len() as u64;
        match &mut self.sink {
            Sink::File(file) => file.write_all(bytes).await.map_err(unwritten),
            Sink::Part(part) => part.write(bytes).await,
        }
    }

    async fn finish(self) -> ApiResult<ExportedFile> {
        match self.sink {
            Sink::File(mut file) => {
                file.flush().await.map_err(unwritten)?;
                file.get_ref().sync_all().await.map_err(unwritten)?;
            }
            Sink::Part(part) => part.finish().await?,
        }
        let sha256 = hex(self.digest.finish().as_ref());
        Ok(ExportedFile { name: self.name, bytes: self.bytes, sha256 })
    }

    /// A file stays where it is: whoever goes on sweeps it.
    async fn give_up(self) {
        if let Sink::Part(part) = self.sink {
            part.give_up().await;
        }
    }
}

/// 409: the directory does not take it.
pub(super) fn unwritten(error: std::io::Error) -> ApiError {
    refused("The directory cannot be written to. Give one that you can write to, with room.").caused_by(error)
}

/// Writes a table to the files of a name; the connection is in the transaction whose moment is exported.
pub(super) async fn table(
    conn: &mut AdminConn,
    (place, stem): (Place<'_>, &str),
    table: Table,
    journal: &mut Journal<'_>,
    done: (i64, i64),
) -> ApiResult<ExportedTable> {
    let first = done.0 * 2;
    let mut json = Output::create(place, format!("{stem}.ndjson"), first).await?;
    let mut csv = Output::create(place, format!("{stem}.csv"), first + 1).await?;
    let written = rows(conn, &table, (&mut json, &mut csv), journal, done).await;
    let rows = match written {
        Ok(rows) => rows,
        Err(error) => {
            json.give_up().await;
            csv.give_up().await;
            return Err(error);
        }
    };
    // Both come to their end, whatever becomes of the other.
    let (json, csv) = (json.finish().await, csv.finish().await);
    let name = format!("{}.{}", table.table.schema, table.table.name);
    Ok(ExportedTable { table: name, rows, columns: table.columns, files: vec![json?, csv?] })
}

/// Writes the rows of a table in both forms, and gives how many there are.
async fn rows(
    conn: &mut AdminConn,
    table: &Table,
    (json, csv): (&mut Output, &mut Output),
    journal: &mut Journal<'_>,
    done: (i64, i64),
) -> ApiResult<u64> {
    csv.write(&line(table.columns.iter().map(|column| Some(column.name.as_str())))?).await?;
    let columns: Vec<_> = table.columns.iter().map(|column| sql::ident(&column.name)).collect();
    let cells: Vec<_> = columns.iter().map(|column| format!("tenantry_row.{column}::text")).collect();
    let declare = format!(
        "DECLARE export NO SCROLL CURSOR FOR SELECT row_to_json(tenantry_row)::text AS json, \
         ARRAY[{}]::text[] AS cells FROM (SELECT {} FROM {}) AS tenantry_row",
        cells.join(", "),
        columns.join(", "),
        table.table.quoted()
    );
    moves(journal.beside(async { conn.batch_execute(&declare).await.map_err(ApiError::internal) })).await?;
    let (mut rows, mut batch) = (0, FIRST);
    loop {
        // A server that hangs holds the tenant no longer than that, and whoever cancels is heard meanwhile.
        let fetch = diesel::sql_query(format!("FETCH {batch} FROM export"));
        let fetched: Vec<Row> =
            moves(journal.beside(async { fetch.load(&mut *conn).await.map_err(ApiError::internal) })).await?;
        let mut longest = 0;
        for row in &fetched {
            longest = longest.max(row.bytes());
            json.write(format!("{}\n", row.json).as_bytes()).await?;
            csv.write(&line(row.cells.iter().map(Option::as_deref))?).await?;
        }
        rows += fetched.len() as u64;
        journal.advance(done.0, done.1).await?;
        if fetched.len() < batch {
            break;
        }
        batch = next_batch(batch, longest);
    }
    conn.batch_execute("CLOSE export").await.map_err(ApiError::internal)?;
    Ok(rows)
}

/// A line of CSV (RFC 4180). A cell that a spreadsheet would take for a formula begins with an apostrophe.
fn line<'a>(cells: impl Iterator<Item = Option<&'a str>>) -> ApiResult<Vec<u8>> {
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    let cells = cells.map(|cell| match cell {
        Some(cell) if cell.starts_with(['=', '+', '-', '@', '\t', '\r']) => format!("'{cell}"),
        cell => cell.unwrap_or_default().to_owned(),
    });
    writer.write_record(cells).map_err(ApiError::internal)?;
    writer.into_inner().map_err(|error| ApiError::internal(error.to_string()))
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt as _;

    use super::*;
    use crate::kernel::chunks::StreamKey;
    use crate::kernel::crypto::sha256;
    use crate::kernel::{BackupId, TenantId};
    use crate::storage::Storage;

    async fn written(place: Place<'_>, text: &str) -> ExportedFile {
        let mut output = Output::create(place, "contacts.csv".into(), 1).await.unwrap();
        for piece in text.as_bytes().chunks(2) {
            output.write(piece).await.unwrap();
        }
        output.finish().await.unwrap()
    }

    /// As it is when a worker wakes up whose job another one has done meanwhile.
    #[tokio::test]
    async fn no_run_writes_to_another_s_files() {
        let dir = std::env::temp_dir().join(format!("tenantry-export-{}", Uuid::now_v7()));
        let storage = Storage::directory(&dir);
        let vault = Vault::new(storage, StreamKey::generate(), TenantId::generate(), BackupId::generate());
        let (published, late) = (Uuid::now_v7(), Uuid::now_v7());
        let file = written(Place::Vault(&vault, published), "all of it").await;
        let other = written(Place::Vault(&vault, late), "something else").await;
        assert_eq!((file.name.as_str(), file.bytes, file.sha256), ("contacts.csv", 9, hex(&sha256(b"all of it"))));
        assert_eq!((other.bytes, other.sha256), (14, hex(&sha256(b"something else"))));
        for (run, text) in [(published, "all of it"), (late, "something else")] {
            let read = vault.open(&part(run, 1)).await.unwrap().try_concat().await.unwrap();
            assert_eq!(read, text.as_bytes());
        }
        tokio::fs::remove_dir_all(&dir).await.unwrap();
    }

    #[tokio::test]
    async fn a_file_knows_what_is_in_it_wherever_it_is() {
        let dir = std::env::temp_dir().join(format!("tenantry-export-{}", Uuid::now_v7()));
        tokio::fs::create_dir(&dir).await.unwrap();
        let file = written(Place::Directory(&dir), "id\r\n1\r\n").await;
        assert_eq!((file.bytes, file.sha256), (7, hex(&sha256(b"id\r\n1\r\n"))));
        assert_eq!(tokio::fs::read(dir.join(file.name)).await.unwrap(), b"id\r\n1\r\n");
        tokio::fs::remove_dir_all(&dir).await.unwrap();
    }

    #[test]
    fn long_rows_are_fetched_one_at_a_time_and_short_ones_by_the_hundred() {
        let mut batch = FIRST;
        for _ in 0..20 {
            batch = next_batch(batch, 100);
        }
        assert_eq!(batch, MOST);
        assert_eq!(next_batch(batch, ENOUGH / 10), 10, "at once, when they are longer");
        assert_eq!(next_batch(10, ENOUGH / 100), 20, "by and by, when they are shorter");
        for longest in [ENOUGH, ENOUGH * 50, usize::MAX] {
            assert_eq!(next_batch(batch, longest), 1);
        }
        assert_eq!((next_batch(1, 0), next_batch(MOST, 0)), (2, MOST));
    }

    #[test]
    fn no_cell_is_a_formula() {
        let cells = [Some("=1+1"), Some("+49"), Some("-5"), Some("@x"), Some("a,\"b\""), None, Some("5-3")];
        let line = String::from_utf8(line(cells.into_iter()).unwrap()).unwrap();
        assert_eq!(line, "'=1+1,'+49,'-5,'@x,\"a,\"\"b\"\"\",,5-3\r\n");
    }
}
