//! Write amplification that theory expects of independent uniform writes.

/// Principal branch of Lambert's W for arguments from `-1/e` to 0, by Newton's method on `w e^w = x`.
fn lambert_w0(x: f64) -> f64 {
    let mut w = if x < -0.3 { -1.0 + (2.0 * (1.0 + std::f64::consts::E * x)).max(0.0).sqrt() } else { x };
    for _ in 0..100 {
        let e = w.exp();
        let step = (w * e - x) / (e * (w + 1.0)).max(1e-300);
        w -= step;
        if step.abs() < 1e-14 {
            break;
        }
    }
    w
}

/// A log that is cleaned in order: `A = alpha / (alpha + W0(-alpha e^-alpha))`, `alpha` = physical / live blocks
/// (Desnoyers, "Analytic Modeling of SSD Write Performance", SYSTOR 2012).
pub fn fifo_uniform(alpha: f64) -> f64 {
    alpha / (alpha + lambert_w0(-alpha * (-alpha).exp()))
}

/// A log that is cleaned greedily, in segments of `segment_blocks`: the same with `alpha (1 + 1 / 2Np)`, the result
/// divided by `1 + 1 / 2Np`.
pub fn greedy_uniform(alpha: f64, segment_blocks: u32) -> f64 {
    let edge = 1.0 + 0.5 / f64::from(segment_blocks);
    fifo_uniform(alpha * edge) / edge
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_values_come_out() {
        let table = [(0.5, 1.25), (0.7, 1.87), (0.8, 2.68), (0.85, 3.50), (0.9, 5.13), (0.95, 9.98)];
        for (u, expected) in table {
            let found = greedy_uniform(1.0 / u, 512);
            assert!((found / expected - 1.0).abs() < 0.004, "u = {u}: {found} for {expected}");
        }
    }
}
