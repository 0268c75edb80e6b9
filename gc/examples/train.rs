//! Trains the shipped models, of placement and of victims, and writes them and the feature schema into a directory:
//! `cargo run --release -p gleanfs-gc --example train -- models/`. With `--judge` it prints the tables of the model cards too. With `--victims`
//! only the victim model is made, for the placement model that is in the directory; with `--schema` nothing but the schema is written.

use std::path::PathBuf;
use std::time::Instant;

use gleanfs_gc::placement::{self, Ewma, Learned, Placement};
use gleanfs_gc::train::{
    Mlp, Scene, ShuffledRows, TrainOptions, WorthNet, WorthOptions, collect, collect_worth, evaluation_scenes,
    shuffled_labels, train_placement, train_victim,
};
use gleanfs_gc::victim::{self, VictimPolicy};
use gleanfs_gc::{features, sim};

const SEED: u64 = 4;
/// Seeds of judgement differ from all that loads were trained with.
const JUDGES: [u64; 3] = [71_001, 71_002, 71_003];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some(dir) = args.iter().find(|a| !a.starts_with("--")).map(PathBuf::from) else {
        eprintln!("usage: train [--judge] [--victims | --schema] DIR");
        std::process::exit(2);
    };
    std::fs::write(dir.join("schema.json"), features::schema_json())?;
    if args.iter().any(|a| a == "--schema") {
        return Ok(());
    }
    let (judged, victims_only) = (args.iter().any(|a| a == "--judge"), args.iter().any(|a| a == "--victims"));
    let options = TrainOptions::shipped(SEED);
    if !victims_only {
        let started = Instant::now();
        let bytes = train_placement(&options, "first");
        println!("trained in {:.1} s, {} bytes", started.elapsed().as_secs_f64(), bytes.len());
        std::fs::write(dir.join("first.onnx"), &bytes)?;
    }
    let bytes = std::fs::read(dir.join("first.onnx"))?;
    let (mlp, worth_options) = (Mlp::from_onnx(&bytes)?.0, WorthOptions::shipped(SEED));
    let started = Instant::now();
    let bytes = train_victim(&worth_options, &mlp, "first-victim");
    println!("victims: trained in {:.1} s, {} bytes", started.elapsed().as_secs_f64(), bytes.len());
    std::fs::write(dir.join("first-victim.onnx"), &bytes)?;
    if judged {
        judge_victims(&mlp, &WorthNet::from_onnx(&bytes)?, &worth_options);
        if !victims_only {
            judge(&mlp, &options);
        }
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
    let rows = rows.into_iter().map(|(name, placement, selection)| (name.to_owned(), placement, rule(selection)));
    print_table(rows.collect());
}

type MakeVictims<'a> = Box<dyn Fn() -> Box<dyn VictimPolicy> + 'a>;

fn rule(name: &'static str) -> MakeVictims<'static> {
    Box::new(move || victim::by_name(name).expect("known"))
}

/// The victim model beside fixed rules under both placements, and its controls.
fn judge_victims(mlp: &Mlp, net: &WorthNet, options: &WorthOptions) {
    let dealt = WorthNet::new(shuffled_labels(&collect_worth(options, mlp), &options.fit, 5));
    let learned = |net: &WorthNet| -> MakeVictims<'_> {
        let net = net.clone();
        Box::new(move || Box::new(victim::Learned::new(net.clone())))
    };
    let shuffled = || -> Box<dyn VictimPolicy> { Box::new(victim::Learned::new(ShuffledRows::new(net.clone(), 5))) };
    let mut rows: Vec<(String, MakePlacement<'_>, MakeVictims<'_>)> = Vec::new();
    for name in ["ewma", "model"] {
        let placement = || -> MakePlacement<'_> {
            match name {
                "ewma" => Box::new(|| Box::new(Ewma)),
                _ => Box::new(|| Box::new(Learned::new(mlp.clone()))),
            }
        };
        rows.push((format!("{name} + greedy"), placement(), rule("greedy")));
        rows.push((format!("{name} + cost-age-class"), placement(), rule("cost-age-class")));
        rows.push((format!("{name} + learned victim"), placement(), learned(net)));
    }
    rows.push(("ewma + shuffled labels".to_owned(), Box::new(|| Box::new(Ewma)), learned(&dealt)));
    rows.push(("ewma + shuffled rows".to_owned(), Box::new(|| Box::new(Ewma)), Box::new(shuffled)));
    print_table(rows);
}

fn print_table(rows: Vec<(String, MakePlacement<'_>, MakeVictims<'_>)>) {
    let scenes = evaluation_scenes(32_768);
    print!("| policies |");
    scenes.iter().for_each(|s| print!(" {} |", s.name));
    println!("\n|---|{}", "---|".repeat(scenes.len()));
    for (name, placement, victims) in &rows {
        print!("| {name} |");
        for scene in &scenes {
            let judged = JUDGES.iter().map(|&seed| wa(scene, placement().as_mut(), victims().as_mut(), seed));
            let was: Vec<f64> = judged.collect();
            let mean = was.iter().sum::<f64>() / was.len() as f64;
            let spread = was.iter().map(|w| (w - mean).abs()).fold(0.0, f64::max);
            print!(" {mean:.3} ±{spread:.3} |");
        }
        println!();
    }
}

fn wa(scene: &Scene, placement: &mut dyn Placement, victims: &mut dyn VictimPolicy, seed: u64) -> f64 {
    let n = u64::from(scene.blocks);
    sim::run(scene.geometry, scene.load(seed).as_mut(), placement, victims, n * 5, n * 5).wa()
}
