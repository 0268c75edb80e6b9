//! Trains the shipped placement model and writes it and the feature schema into a directory:
//! `cargo run --release -p gleanfs-gc --example train -- models/`. With `--judge` it prints the table of the model card too.

use std::path::PathBuf;
use std::time::Instant;

use gleanfs_gc::placement::{self, Ewma, Learned, Placement};
use gleanfs_gc::train::{
    Mlp, ShuffledRows, TrainOptions, collect, evaluation_scenes, shuffled_labels, train_placement,
};
use gleanfs_gc::{features, sim, victim};

const SEED: u64 = 4;
/// Seeds of judgement differ from all that loads were trained with.
const JUDGES: [u64; 3] = [71_001, 71_002, 71_003];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some(dir) = args.iter().find(|a| !a.starts_with("--")).map(PathBuf::from) else {
        eprintln!("usage: train [--judge] DIR");
        std::process::exit(2);
    };
    std::fs::write(dir.join("schema.json"), features::schema_json())?;
    let options = TrainOptions::shipped(SEED);
    let started = Instant::now();
    let bytes = train_placement(&options, "first");
    println!("trained in {:.1} s, {} bytes", started.elapsed().as_secs_f64(), bytes.len());
    std::fs::write(dir.join("first.onnx"), &bytes)?;
    if args.iter().any(|a| a == "--judge") {
        judge(&Mlp::from_onnx(&bytes)?.0, &options);
    }
    Ok(())
}

type MakePlacement<'a> = Box<dyn Fn() -> Box<dyn Placement> + 'a>;

fn judge(mlp: &Mlp, options: &TrainOptions) {
    let samples = collect(options, &mut || Box::new(Ewma));
    let fixed =
        |name: &'static str| -> MakePlacement<'_> { Box::new(move || placement::by_name(name).expect("known")) };
    let learned = |mlp: Mlp| -> MakePlacement<'_> { Box::new(move || Box::new(Learned::new(mlp.clone()))) };
    let shuffled = || -> Box<dyn Placement> { Box::new(Learned::new(ShuffledRows::new(mlp.clone(), 5))) };
    let rows: Vec<(&str, MakePlacement<'_>, &str)> = vec![
        ("none + greedy", fixed("none"), "greedy"),
        ("none + cost-age", fixed("none"), "cost-age"),
        ("user-cleaner + cost-age", fixed("user-cleaner"), "cost-age"),
        ("sepbit + cost-age", fixed("sepbit"), "cost-age"),
        ("ewma + cost-age", fixed("ewma"), "cost-age"),
        ("ewma + cost-age-class", fixed("ewma"), "cost-age-class"),
        ("model + cost-age-class", learned(mlp.clone()), "cost-age-class"),
        ("model + cost-age", learned(mlp.clone()), "cost-age"),
        ("model + greedy", learned(mlp.clone()), "greedy"),
        ("constant + cost-age-class", learned(mlp.constant()), "cost-age-class"),
        ("shuffled labels + cost-age-class", learned(shuffled_labels(&samples, &options.fit, 5)), "cost-age-class"),
        ("shuffled rows + cost-age-class", Box::new(shuffled), "cost-age-class"),
        ("shuffled rows + greedy", Box::new(shuffled), "greedy"),
    ];
    let scenes = evaluation_scenes(32_768);
    print!("| policies |");
    scenes.iter().for_each(|s| print!(" {} |", s.name));
    println!("\n|---|{}", "---|".repeat(scenes.len()));
    for (name, make, selection) in &rows {
        print!("| {name} |");
        for scene in &scenes {
            let was: Vec<f64> = JUDGES.iter().map(|&seed| wa(scene, make().as_mut(), selection, seed)).collect();
            let mean = was.iter().sum::<f64>() / was.len() as f64;
            let spread = was.iter().map(|w| (w - mean).abs()).fold(0.0, f64::max);
            print!(" {mean:.3} ±{spread:.3} |");
        }
        println!();
    }
}

fn wa(scene: &gleanfs_gc::train::Scene, placement: &mut dyn Placement, selection: &str, seed: u64) -> f64 {
    let mut selection = victim::by_name(selection).expect("known");
    let n = u64::from(scene.blocks);
    sim::run(scene.geometry, scene.load(seed).as_mut(), placement, selection.as_mut(), n * 5, n * 5).wa()
}
