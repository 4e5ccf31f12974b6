//! Work on many submissions at a time.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Does `work` on each item, begun in order, `jobs` at a time; the results are in the order of the
/// items. After a `Break` no further item is begun.
pub fn in_parallel<T: Sync, R: Send>(
    items: &[T],
    jobs: usize,
    work: impl Fn(usize, &T) -> ControlFlow<R, R> + Sync,
) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(BTreeMap::new());
    let one_after_another = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(index) else {
                return;
            };
            let result = match work(index, item) {
                ControlFlow::Continue(result) => result,
                ControlFlow::Break(result) => {
                    next.store(items.len(), Ordering::Relaxed);
                    result
                }
            };
            locked(&results).insert(index, result);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(one_after_another);
        }
    });
    let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    // Items are begun in order, so that there is no gap before the last result.
    results.into_values().collect()
}

/// What `mutex` holds. A thread that panicked has shown it; what the others found is whole.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::in_parallel;

    #[test]
    fn results_come_in_order_and_nothing_is_begun_after_a_break() {
        let items: Vec<usize> = (0..100).collect();
        for jobs in [1, 3] {
            let doubled = in_parallel(&items, jobs, |_, item| ControlFlow::Continue(2 * item));
            assert_eq!(
                doubled,
                items.iter().map(|item| 2 * item).collect::<Vec<_>>()
            );
        }
        let until_ten = in_parallel(&items, 1, |index, _| {
            if index == 10 {
                ControlFlow::Break(index)
            } else {
                ControlFlow::Continue(index)
            }
        });
        assert_eq!(until_ten, items[..=10]);
    }
}
