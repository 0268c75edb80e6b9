//! A small run of the campaign through its own options.

use xtests::corruption::{Options, run};

#[test]
fn a_few_cases_of_one_image() {
    let shape = Some(gleanfs::trial::corruption::image::Shape::Clean);
    let options = Options { seed: 2, seeds: 1, operations: 60, one_in: 500, several: 2, shape, case: None, json: true };
    run(&options).unwrap();
}
