//! Work that must not be cut in half.
//!
//! HTTP and gRPC drop the future of a handler when its client goes away. A handler that is dropped
//! between its commit and what it then changes in memory would leave the two apart: a job that is
//! stored and never runs, a node that is revoked and keeps its session. So whatever writes runs in
//! a task of its own, and the handler only waits for it.

/// Run to the end, whether or not anybody waits.
///
/// # Panics
/// If the work panics: the panic goes on in the caller, if there is one.
pub async fn uncut<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    match tokio::spawn(work).await {
        Ok(done) => done,
        // A task that nobody aborts ends by itself or by a panic.
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => std::future::pending().await,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    #[tokio::test]
    async fn work_ends_though_nobody_waits() {
        let (ended, end) = tokio::sync::oneshot::channel();
        let (go, gone) = tokio::sync::oneshot::channel::<()>();
        let work = super::uncut(async move {
            let _ = gone.await;
            let _ = ended.send(());
        });
        // The caller is dropped while the work is under way.
        assert!(tokio::time::timeout(Duration::from_millis(1), work).await.is_err());
        go.send(()).unwrap();
        end.await.expect("the work went on");
    }
}
