//! The small symmetric system of a least-squares fit whose columns have length 1: its Cholesky
//! factor, its solution, and how much each unknown suffers from the others.
//!
//! It never fails: a column that the ones before it make up leaves a pivot that is held at
//! [`PIVOT_FLOOR`], and shows as a huge diagonal of the inverse. Whoever uses the solution must
//! look at that diagonal first.

/// The least pivot, `1 - R²` of a column on the ones before it. The sums that the matrix is made
/// of have relative errors of about 1e-15, so what is below this is no more than rounding.
const PIVOT_FLOOR: f64 = 1e-12;

/// The lower Cholesky factor of a symmetric matrix with ones on its diagonal.
pub(crate) struct CorrelationFactor {
    size: usize,
    /// Row after row; what is above the diagonal is not used.
    lower: Vec<f64>,
}

impl CorrelationFactor {
    /// Factorises `matrix`, row after row, of which only the lower triangle is read.
    pub(crate) fn of(mut matrix: Vec<f64>, size: usize) -> Self {
        for row in 0..size {
            for column in 0..=row {
                let explained: f64 = (0..column)
                    .map(|k| matrix[row * size + k] * matrix[column * size + k])
                    .sum();
                let rest = matrix[row * size + column] - explained;
                matrix[row * size + column] = if column == row {
                    rest.max(PIVOT_FLOOR).sqrt()
                } else {
                    rest / matrix[column * size + column]
                };
            }
        }
        Self {
            size,
            lower: matrix,
        }
    }

    /// Replaces the right-hand side by the solution.
    pub(crate) fn solve(&self, vector: &mut [f64]) {
        self.substitute_forward(vector, 0);
        for row in (0..self.size).rev() {
            let known: f64 = (row + 1..self.size)
                .map(|k| self.lower[k * self.size + row] * vector[k])
                .sum();
            vector[row] = (vector[row] - known) / self.lower[row * self.size + row];
        }
    }

    /// The diagonal of the inverse. For a column of length 1 this is `1 / (1 - R²)`, with `R²` of
    /// its regression on all the others: its variance inflation factor.
    pub(crate) fn inverse_diagonal(&self) -> Vec<f64> {
        (0..self.size)
            .map(|unknown| {
                let mut column = vec![0.0; self.size];
                column[unknown] = 1.0;
                self.substitute_forward(&mut column, unknown);
                column.iter().map(|value| value * value).sum()
            })
            .collect()
    }

    /// Solves with the factor itself; `vector` is zero before `first`.
    fn substitute_forward(&self, vector: &mut [f64], first: usize) {
        for row in first..self.size {
            let known: f64 = (first..row)
                .map(|k| self.lower[row * self.size + k] * vector[k])
                .sum();
            vector[row] = (vector[row] - known) / self.lower[row * self.size + row];
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::CorrelationFactor;

    /// The correlations of `size` columns with `rows` elements each.
    fn correlations(columns: &[Vec<f64>]) -> Vec<f64> {
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        columns
            .iter()
            .flat_map(|a| {
                columns
                    .iter()
                    .map(move |b| dot(a, b) / (dot(a, a) * dot(b, b)).sqrt())
            })
            .collect()
    }

    proptest! {
        #[test]
        fn the_solution_solves_the_system(
            (columns, wanted) in (1_usize..12).prop_flat_map(|size| (
                vec(vec(-1.0_f64..1.0, 64), size),
                vec(-2.0_f64..2.0, size),
            ))
        ) {
            let size = columns.len();
            let matrix = correlations(&columns);
            let mut vector: Vec<f64> = (0..size)
                .map(|row| (0..size).map(|k| matrix[row * size + k] * wanted[k]).sum())
                .collect();
            CorrelationFactor::of(matrix, size).solve(&mut vector);
            for (found, wanted) in vector.iter().zip(&wanted) {
                prop_assert!((found - wanted).abs() < 1e-9, "{found} is not {wanted}");
            }
        }

        #[test]
        fn the_diagonal_of_the_inverse_is_what_solving_for_a_unit_vector_gives(
            columns in (1_usize..12).prop_flat_map(|size| vec(vec(-1.0_f64..1.0, 64), size))
        ) {
            let size = columns.len();
            let factor = CorrelationFactor::of(correlations(&columns), size);
            for (unknown, found) in factor.inverse_diagonal().into_iter().enumerate() {
                let mut column = vec![0.0; size];
                column[unknown] = 1.0;
                factor.solve(&mut column);
                prop_assert!((found - column[unknown]).abs() <= 1e-9 * found);
                prop_assert!(found >= 1.0 - 1e-12);
            }
        }
    }

    #[test]
    fn two_columns_inflate_each_other_by_their_correlation() {
        let factor = CorrelationFactor::of(vec![1.0, 0.8, 0.8, 1.0], 2);
        for inflation in factor.inverse_diagonal() {
            assert!((inflation - 1.0 / (1.0 - 0.64)).abs() < 1e-12);
        }
    }

    #[test]
    fn a_column_that_others_make_up_inflates_those_and_no_other() {
        let columns = [
            vec![1.0, 2.0, 0.0, 0.5],
            vec![0.0, 1.0, 0.0, -1.0],
            vec![0.0, 0.0, 3.0, 0.0],
            vec![1.0, 3.0, 0.0, -0.5],
        ];
        let inflation = CorrelationFactor::of(correlations(&columns), 4).inverse_diagonal();
        for dependent in [0, 1, 3] {
            assert!(inflation[dependent] > 1e9, "{inflation:?}");
        }
        assert!((inflation[2] - 1.0).abs() < 1e-9, "{inflation:?}");
    }

    #[test]
    fn no_column_at_all_is_a_system_too() {
        let factor = CorrelationFactor::of(Vec::new(), 0);
        factor.solve(&mut []);
        assert!(factor.inverse_diagonal().is_empty());
    }
}
