//! Rows of what operations have written on their way.

use super::{Connection, Store, StoreError, bundles::signed, sql};
use windlass_types::{JobId, NodeId, NodeName, RequestId};

type Result<T> = std::result::Result<T, StoreError>;

/// Of one node of a job at most. A host stops its operations far before.
const MAX_BYTES: u64 = 1 << 30;
/// Jobs whose output is forgotten in one transaction.
const FORGET: i64 = 20;

/// Some output as it comes from a node.
#[derive(Debug, Clone)]
pub struct Piece {
    pub job: JobId,
    pub position: u32,
    pub request: RequestId,
    /// Where it begins.
    pub offset: u64,
    pub data: bytes::Bytes,
}

/// Keep a piece, or what of it is not kept yet. Gives back up to where there is output now.
pub async fn append(c: &mut Connection, piece: &Piece) -> Result<u64> {
    let (job, position) = (piece.job.to_string(), i64::from(piece.position));
    let request = piece.request.to_string();
    let known = sql::query("SELECT request_id, bytes FROM job_outputs WHERE job_id = $1 AND position = $2")
        .bind(&job)
        .bind(position)
        .fetch_optional(&mut *c)
        .await?;
    let have = match known {
        Some(row) if row.try_get::<&str>("request_id")? == request => {
            row.try_get::<i64>("bytes")?.unsigned_abs()
        }
        // The node is asked once more: what counts is what it writes now.
        _ => {
            sql::query("DELETE FROM job_outputs WHERE job_id = $1 AND position = $2")
                .bind(&job)
                .bind(position)
                .execute(&mut *c)
                .await?;
            sql::query(
                "INSERT INTO job_outputs (job_id, position, request_id, bytes, forgotten) \
                 VALUES ($1, $2, $3, 0, FALSE)",
            )
            .bind(&job)
            .bind(position)
            .bind(&request)
            .execute(&mut *c)
            .await?;
            0
        }
    };
    let end = piece.offset.saturating_add(piece.data.len() as u64);
    if end <= have || end > MAX_BYTES {
        return Ok(end.max(have));
    }
    // A gap stays one: what was before is lost.
    let start = piece.offset.max(have);
    let data = piece.data.slice(usize::try_from(start - piece.offset).unwrap_or(0)..);
    sql::query(
        "INSERT INTO job_output_pieces (job_id, position, start_byte, data) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (job_id, position, start_byte) DO NOTHING",
    )
    .bind(&job)
    .bind(position)
    .bind(signed(start))
    .bind(data.to_vec())
    .execute(&mut *c)
    .await?;
    sql::query("UPDATE job_outputs SET bytes = $3 WHERE job_id = $1 AND position = $2")
        .bind(&job)
        .bind(position)
        .bind(signed(end))
        .execute(c)
        .await?;
    Ok(end)
}

/// Note how much there was, as the result says.
pub async fn told(c: &mut Connection, job: JobId, position: u32, bytes: u64) -> Result<()> {
    sql::query(
        "INSERT INTO job_outputs (job_id, position, request_id, bytes, told, forgotten) \
         VALUES ($1, $2, '', 0, $3, FALSE) ON CONFLICT (job_id, position) DO UPDATE SET told = excluded.told",
    )
    .bind(job.to_string())
    .bind(i64::from(position))
    .bind(signed(bytes))
    .execute(c)
    .await?;
    Ok(())
}

/// Some of the output of a node.
#[derive(Debug)]
pub struct Read {
    pub node: NodeId,
    pub name: NodeName,
    /// It has its outcome.
    pub ended: bool,
    /// Where `data` begins; behind what was asked for if that is not there.
    pub start: u64,
    pub data: Vec<u8>,
    /// There is output up to here.
    pub bytes: u64,
    /// How much there was, once it has ended.
    pub told: Option<u64>,
    pub forgotten: bool,
}

/// What a node has written from a byte on: the next pieces that follow each other, until there are `limit`
/// bytes or more. None when the job has no such node.
pub async fn read(store: &Store, job: JobId, node: &str, after: u64, limit: usize) -> Result<Option<Read>> {
    let row = sql::query(
        "SELECT n.position, n.node_id, n.node_name, o.finished_ms, p.bytes, p.told, p.forgotten FROM job_nodes n \
         LEFT JOIN job_outcomes o ON o.job_id = n.job_id AND o.position = n.position \
         LEFT JOIN job_outputs p ON p.job_id = n.job_id AND p.position = n.position \
         WHERE n.job_id = $1 AND (n.node_id = $2 OR n.node_name = $2)",
    )
    .bind(job.to_string())
    .bind(node)
    .fetch_optional(store.readers())
    .await?;
    let Some(row) = row else { return Ok(None) };
    let number = |name| row.try_get::<Option<i64>>(name).map(|value| value.map(i64::unsigned_abs));
    let position: i64 = row.try_get("position")?;
    let mut read = Read {
        node: super::nodes::parse("node id", row.try_get("node_id")?)?,
        name: super::nodes::parse("node name", row.try_get("node_name")?)?,
        ended: number("finished_ms")?.is_some(),
        start: after,
        data: Vec::new(),
        bytes: number("bytes")?.unwrap_or(0),
        told: number("told")?,
        forgotten: row.try_get::<Option<bool>>("forgotten")?.unwrap_or(false),
    };
    // From the piece that holds the byte, or the next one.
    let pieces = sql::query(
        "SELECT start_byte, data FROM job_output_pieces WHERE job_id = $1 AND position = $2 AND start_byte >= \
         COALESCE((SELECT MAX(start_byte) FROM job_output_pieces WHERE job_id = $1 AND position = $2 \
         AND start_byte <= $3), 0) ORDER BY start_byte LIMIT $4",
    )
    .bind(job.to_string())
    .bind(position)
    .bind(signed(after))
    // Pieces are small where an operation writes little by little.
    .bind(i64::try_from(limit / 1024 + 2).unwrap_or(i64::MAX))
    .fetch_all(store.readers())
    .await?;
    for row in &pieces {
        let start = row.try_get::<i64>("start_byte")?.unsigned_abs();
        let data: &[u8] = row.try_get("data")?;
        let end = start + data.len() as u64;
        if end <= after {
            continue;
        }
        let next = read.start + read.data.len() as u64;
        if start > next {
            if !read.data.is_empty() {
                break;
            }
            read.start = start;
        }
        let skip = usize::try_from((read.start + read.data.len() as u64) - start).unwrap_or(usize::MAX);
        read.data.extend_from_slice(data.get(skip..).unwrap_or_default());
        if read.data.len() >= limit {
            break;
        }
    }
    Ok(Some(read))
}

/// Forget the output of some of the oldest finished jobs, if all together is more than `keep` bytes. Gives
/// back of how many; call again until it is none.
pub async fn sweep(c: &mut Connection, keep: u64) -> Result<u64> {
    let all: Option<i64> =
        sql::query("SELECT CAST(SUM(bytes) AS BIGINT) FROM job_outputs WHERE NOT forgotten")
            .fetch_scalar(&mut *c)
            .await?
            .flatten();
    let mut over = all.unwrap_or(0) - signed(keep);
    if over <= 0 {
        return Ok(0);
    }
    let old = sql::query(
        "SELECT p.job_id, CAST(SUM(p.bytes) AS BIGINT) AS bytes FROM job_outputs p JOIN jobs j ON j.id = p.job_id \
         WHERE NOT p.forgotten AND j.finished_ms IS NOT NULL GROUP BY p.job_id, j.finished_ms \
         ORDER BY j.finished_ms LIMIT $1",
    )
    .bind(FORGET)
    .fetch_all(&mut *c)
    .await?;
    let mut swept = 0;
    for row in old {
        if over <= 0 {
            break;
        }
        let job: &str = row.try_get("job_id")?;
        sql::query("DELETE FROM job_output_pieces WHERE job_id = $1").bind(job).execute(&mut *c).await?;
        sql::query("UPDATE job_outputs SET forgotten = TRUE WHERE job_id = $1")
            .bind(job)
            .execute(&mut *c)
            .await?;
        over -= row.try_get::<i64>("bytes")?;
        swept += 1;
    }
    Ok(swept)
}
