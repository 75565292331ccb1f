//! The command line: flags, their ranges, and the job they describe.

mod cores;
mod cost;
mod degrade;
mod values;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use ringmain::topic::Pattern;

use crate::compare::CompareOptions;
use crate::error::Error;
use crate::input::template::Template;
use crate::load::options::{Load, Rate, Wait};
use crate::routing::{MAX_PATTERNS, RoutingOptions};
use crate::scenario::{
    self, CostOptions, DegradeOptions, FloorOptions, ReplayOptions, RouteFiles, RunOptions, WaitingOptions,
};
use crate::simulate::{self, SimulateFile};
use cores::CoresArg;
use cost::CostArgs;
use degrade::DegradeArgs;

/// What to do, and where the figures go.
#[derive(Debug)]
pub(crate) struct Job {
    /// The command with its options.
    pub(crate) command: Command,
    /// The file for the JSON; `-` for standard output.
    pub(crate) json: Option<PathBuf>,
}

/// A command with its options, all of them checked.
#[derive(Debug)]
pub(crate) enum Command {
    Run(RunOptions),
    Floor(FloorOptions),
    Latency(Load),
    Throughput(Load),
    Compare(CompareOptions),
    Topology(CompareOptions),
    Routing(RoutingOptions),
    Replay(ReplayOptions),
    Waiting(WaitingOptions),
    Degrade(DegradeOptions),
    Cost(CostOptions),
    Route(RouteFiles),
    Simulate(SimulateFile),
}

impl Command {
    /// The files that it reads.
    pub(crate) fn inputs(&self) -> Vec<&Path> {
        match self {
            Self::Run(_) | Self::Floor(_) | Self::Latency(_) | Self::Throughput(_) => Vec::new(),
            Self::Compare(_) | Self::Topology(_) | Self::Routing(_) | Self::Waiting(_) => Vec::new(),
            Self::Degrade(_) | Self::Cost(_) => Vec::new(),
            Self::Replay(replay) => vec![&replay.file],
            Self::Simulate(simulate) => vec![&simulate.file],
            Self::Route(files) => std::iter::once(&*files.patterns).chain(files.topics.as_deref()).collect(),
        }
    }
}

/// What a command line asks for.
pub(crate) enum Parsed {
    /// A job.
    Job(Job),
    /// A text: help or version.
    Answer(String),
}

/// At the end of every help text.
const EXIT_CODES: &str = "Exit codes: 0 done, and everything counted; 1 a check failed; 2 unusable \
                          arguments or input; 3 the machine was too noisy for the verdict that was \
                          asked for; 4 input or output failed; 130 interrupted. With 2 and 4 nothing is \
                          printed on standard output.";

/// Parses the command line.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Parsed, Error> {
    let definition = CommandLine::command().after_help(EXIT_CODES);
    let definition = definition.mut_subcommands(|command| command.after_help(EXIT_CODES));
    let matches = definition.try_get_matches_from(arguments);
    match matches.and_then(|matches| CommandLine::from_arg_matches(&matches)) {
        Ok(line) => line.into_job().map(Parsed::Job),
        Err(error) if error.use_stderr() => {
            let text = error.render().to_string();
            let text = text.strip_prefix("error: ").unwrap_or(&text);
            Err(Error::Usage(text.trim_end().to_owned()))
        }
        Err(answer) => Ok(Parsed::Answer(answer.render().to_string())),
    }
}

/// Measures, probes and tries the Ringmain engine on this machine.
///
/// Without a command: the main job, 'run'.
#[derive(Debug, Parser)]
#[command(name = "ringmain-bench", version, disable_help_subcommand = true)]
struct CommandLine {
    /// Write the answer as JSON to this file; '-' for standard output, which then carries nothing
    /// else
    #[arg(long, global = true, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    run: RunArgs,
    #[command(subcommand)]
    command: Option<Subcommands>,
}

#[derive(Debug, Subcommand)]
enum Subcommands {
    /// The main job: floor and noise of this machine, latency at several rates, throughput,
    /// fan-out, routing
    Run(RunArgs),
    /// The floor and the noise of this machine alone: what no message can beat, and what stalls any
    /// thread
    Floor(FloorArgs),
    /// Open-loop one-way latency through topic routing
    Latency(LatencyArgs),
    /// Messages per second and nanoseconds per message, as fast as back-pressure allows
    Throughput(LoadArgs),
    /// Our ring beside its rivals, interleaved in one run; rivals need a build with the feature
    /// 'rivals'
    Compare(CompareArgs),
    /// Unicast, pipeline, sequencer, multicast and diamond, as the disruptor's authors measure them
    Topology(ContestArgs),
    /// What it costs to match, subscribe and unsubscribe at many patterns, and to publish while the
    /// table changes
    ///
    /// Everything that is compared is measured in turns, round by round; times are nanoseconds or
    /// microseconds, as each row says, and memory is in bytes. 10000000 patterns take some
    /// gigabytes. The rival in matching needs a build with the feature 'rivals'.
    Routing(RoutingArgs),
    /// Publish each row of a CSV file as a JSON message
    Replay(ReplayArgs),
    /// What waiting costs: processor time while idle, wake-ups beside a bare futex's, what a pinned
    /// neighbour notices
    Waiting(WaitingOptions),
    /// A subscriber that fails from none to all of its messages, beside a healthy one
    #[command(long_about = scenario::DEGRADE_HELP)]
    Degrade(DegradeArgs),
    /// What each feature adds to a message, on minus off: nanoseconds, and instructions where they can
    /// be counted
    #[command(long_about = scenario::COST_HELP)]
    Cost(CostArgs),
    /// Print which patterns match which topics, or which patterns are odd; no engine thread is
    /// involved
    ///
    /// One line for every match: the topic, a tab, the pattern; sorted bytewise, and each once
    /// however often its topic or pattern stands in its file. Files are UTF-8 with LF or CRLF; an
    /// empty line is an error, as is any that is no topic or pattern: 1 to 32 words joined by dots,
    /// 255 bytes at most. In a pattern the word '*' stands for one word, '#' for any number or
    /// none. Patterns are held in memory; topics may be more than that holds, and are sorted in
    /// temporary files.
    Route(RouteFiles),
    /// What retries, breakers and backlogs would do to the messages of a scenario, on a virtual
    /// clock: exactly, and at once
    #[command(long_about = simulate::HELP)]
    Simulate(SimulateFile),
}

#[derive(Clone, Copy, Debug, Args)]
struct RunArgs {
    /// Shorter rounds: done within 15 seconds instead of 60
    #[arg(long)]
    quick: bool,
}

#[derive(Debug, Args)]
struct FloorArgs {
    /// How long to measure, from 0.001 to 604800
    #[arg(long, value_name = "SECONDS", default_value = "2", allow_hyphen_values = true,
          value_parser = values::duration)]
    duration: Duration,
    #[command(flatten)]
    cores: CoresArg,
}

#[derive(Debug, Args)]
struct LatencyArgs {
    /// Messages per second of all publishers together, from 0.001 to 1000000000, or 'max' for as
    /// fast as back-pressure allows
    #[arg(long, value_name = "N|max", default_value = "100000", allow_hyphen_values = true,
          value_parser = values::rate)]
    rate: Rate,
    #[command(flatten)]
    load: LoadArgs,
}

#[derive(Debug, Args)]
struct LoadArgs {
    /// How long to publish, all rounds and contenders together, from 0.001 to 604800
    #[arg(long, value_name = "SECONDS", default_value = "5", allow_hyphen_values = true,
          value_parser = values::duration)]
    duration: Duration,
    /// Size of each message's payload, from 0 to 65536
    #[arg(long, value_name = "BYTES", default_value = "64", allow_hyphen_values = true,
          value_parser = values::count(0, 65_536, "bytes"))]
    payload: usize,
    /// Publishers, from 1 to 256, each on a thread of its own
    #[arg(long, value_name = "N", default_value = "1", allow_hyphen_values = true,
          value_parser = values::count(1, 256, "publishers"))]
    publishers: usize,
    /// Subscribers, from 1 to 1024; each gets every message
    #[arg(long, value_name = "N", default_value = "1", allow_hyphen_values = true,
          value_parser = values::count(1, 1_024, "subscribers"))]
    subscribers: usize,
    /// Topics that the messages are spread over, from 1 to 1000000
    #[arg(long, value_name = "N", default_value = "1", allow_hyphen_values = true,
          value_parser = values::count(1, 1_000_000, "topics"))]
    topics: usize,
    /// How consumers wait for messages, and publishers for room [default: busy-spin where every
    /// thread has a core of its own, else adaptive]
    #[arg(long, value_name = "STRATEGY")]
    wait: Option<Wait>,
    #[command(flatten)]
    cores: CoresArg,
    /// Slots of the ring, a power of two from 1 to 16777216
    #[arg(long, value_name = "N", default_value = "1024", allow_hyphen_values = true,
          value_parser = values::capacity)]
    capacity: usize,
    /// Publish to topics given as text with every message, instead of topics that publishers are
    /// bound to
    #[arg(long)]
    runtime_topics: bool,
    /// Have a subscriber's handler stand still for so many seconds, once: shows that a stall is not
    /// hidden
    #[arg(long, value_name = "SECONDS", hide = true, value_parser = values::duration)]
    plant_stall: Option<Duration>,
}

#[derive(Debug, Args)]
struct ContestArgs {
    /// Only cases and contenders with one of these words in their name; ours always stands beside
    /// them
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    only: Vec<String>,
    /// Rounds, from 1 to 1000, in each of which every contender has a turn [default: 7, or 3 with
    /// --quick]
    #[arg(long, value_name = "N", allow_hyphen_values = true,
          value_parser = values::count(1, 1_000, "rounds"))]
    rounds: Option<usize>,
    /// Fewer rounds, and shorter turns
    #[arg(long)]
    quick: bool,
    #[command(flatten)]
    cores: CoresArg,
}

#[derive(Debug, Args)]
struct CompareArgs {
    #[command(flatten)]
    contest: ContestArgs,
    /// Every handler with every event size, not just with 64 bytes
    #[arg(long)]
    full: bool,
    /// Hold the figures to their bounds, and show them: a missed one is a failed check, exit code
    /// 1, or 3 where the machine was too noisy to tell
    #[arg(long)]
    check: bool,
}

#[derive(Debug, Args)]
struct RoutingArgs {
    /// Patterns in the table, from 1 to 10000000, each of a subscription of its own [default:
    /// 1000000, or 100000 with --quick]
    #[arg(long, value_name = "N", allow_hyphen_values = true,
          value_parser = values::count(1, MAX_PATTERNS, "patterns"))]
    patterns: Option<usize>,
    /// Fewer patterns, fewer and shorter rounds: done within 15 seconds instead of some minutes
    #[arg(long)]
    quick: bool,
    /// Hold the figures to their bounds, and show them: a missed one is a failed check, exit code
    /// 1, or 3 where the machine was too noisy to tell
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    cores: CoresArg,
}

#[derive(Debug, Args)]
struct ReplayArgs {
    /// The rows to publish: UTF-8, a header line, LF or CRLF
    #[arg(value_name = "FILE.csv")]
    file: PathBuf,
    /// The topic of a row; {column} becomes that row's value, {{ and }} are braces. A value with a
    /// dot in it makes more words; one that no topic may hold is an error
    #[arg(long, value_name = "TEMPLATE", value_parser = Template::parse)]
    topic: Template,
    /// A subscription for each of these patterns
    #[arg(long, value_name = "PATTERN", num_args = 1.., required = true, value_parser = Pattern::from_str)]
    subscribe: Vec<Pattern>,
}

impl CommandLine {
    fn into_job(self) -> Result<Job, Error> {
        let command = match self.command {
            None => Command::Run(self.run.into_options(false)),
            Some(Subcommands::Run(run)) => Command::Run(run.into_options(self.run.quick)),
            Some(_) if self.run.quick => {
                return Err(Error::Usage(
                    "--quick is an option of 'run'; for another command write it behind its name".to_owned(),
                ));
            }
            Some(Subcommands::Floor(floor)) => {
                Command::Floor(FloorOptions { duration: floor.duration, cores: floor.cores.into_list() })
            }
            Some(Subcommands::Latency(latency)) => Command::Latency(latency.load.into_load(latency.rate)),
            Some(Subcommands::Throughput(load)) => Command::Throughput(load.into_load(Rate::Max)),
            Some(Subcommands::Compare(compare)) => {
                Command::Compare(compare.contest.into_options(compare.full, compare.check))
            }
            Some(Subcommands::Topology(contest)) => Command::Topology(contest.into_options(false, false)),
            Some(Subcommands::Routing(routing)) => Command::Routing(RoutingOptions {
                patterns: routing.patterns,
                quick: routing.quick,
                check: routing.check,
                cores: routing.cores.into_list(),
            }),
            Some(Subcommands::Replay(replay)) => Command::Replay(ReplayOptions {
                file: replay.file,
                topic: replay.topic,
                subscribe: replay.subscribe,
            }),
            Some(Subcommands::Waiting(options)) => Command::Waiting(options),
            Some(Subcommands::Cost(cost)) => Command::Cost(cost.into_options()),
            Some(Subcommands::Degrade(degrade)) => Command::Degrade(degrade.into_options()),
            Some(Subcommands::Route(files)) => Command::Route(files),
            Some(Subcommands::Simulate(file)) => Command::Simulate(file),
        };
        Ok(Job { command, json: self.json })
    }
}

impl RunArgs {
    fn into_options(self, quick: bool) -> RunOptions {
        RunOptions { quick: self.quick || quick }
    }
}

impl ContestArgs {
    fn into_options(self, full: bool, check: bool) -> CompareOptions {
        CompareOptions {
            only: self.only,
            rounds: self.rounds,
            quick: self.quick,
            full,
            check,
            cores: self.cores.into_list(),
        }
    }
}

impl LoadArgs {
    fn into_load(self, rate: Rate) -> Load {
        Load {
            rate,
            duration: self.duration,
            payload: self.payload,
            publishers: self.publishers,
            subscribers: self.subscribers,
            topics: self.topics,
            wait: self.wait,
            cores: self.cores.into_list(),
            capacity: self.capacity,
            runtime_topics: self.runtime_topics,
            planted_stall: self.plant_stall,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn job(line: &str) -> Job {
        let words = std::iter::once("ringmain-bench").chain(line.split_whitespace());
        match parse(words.map(OsString::from)) {
            Ok(Parsed::Job(job)) => job,
            Ok(Parsed::Answer(text)) => panic!("{line}: {text}"),
            Err(error) => panic!("{line}: {error}"),
        }
    }

    #[test]
    fn the_definitions_hold_together() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn no_command_is_the_main_job() {
        assert!(matches!(job("").command, Command::Run(RunOptions { quick: false })));
        for line in ["--quick", "run --quick", "--quick run"] {
            assert!(matches!(job(line).command, Command::Run(RunOptions { quick: true })), "{line}");
        }
    }

    #[test]
    fn json_is_taken_before_and_after_the_command() {
        for line in ["--json a.json floor", "floor --json a.json"] {
            assert_eq!(job(line).json, Some(PathBuf::from("a.json")), "{line}");
        }
        assert_eq!(job("--json -").json, Some(PathBuf::from("-")));
    }

    #[test]
    fn every_option_of_a_load_arrives() {
        let line = "latency --rate 2.5 --duration 0.5 --payload 0 --publishers 2 --subscribers 3 --topics 4 \
                    --wait busy-spin --cores 0 --capacity 64 --runtime-topics --plant-stall 0.7";
        let Command::Latency(load) = job(line).command else { panic!("not a latency job") };
        let expected = Load {
            rate: Rate::PerSecond(2.5),
            duration: Duration::from_millis(500),
            payload: 0,
            publishers: 2,
            subscribers: 3,
            topics: 4,
            wait: Some(Wait::BusySpin),
            cores: Some(vec![0]),
            capacity: 64,
            runtime_topics: true,
            planted_stall: Some(Duration::from_millis(700)),
        };
        assert_eq!(load, expected);
    }

    #[test]
    fn a_comparison_takes_words_in_one_list() {
        let Command::Compare(options) =
            job("compare --only ping-pong,rtrb --rounds 5 --full --check --cores 0").command
        else {
            panic!("not a comparison")
        };
        let only = ["ping-pong", "rtrb"].map(str::to_owned).to_vec();
        let expected = CompareOptions {
            only,
            rounds: Some(5),
            quick: false,
            full: true,
            check: true,
            cores: Some(vec![0]),
        };
        assert_eq!(options, expected);
        assert!(matches!(
            job("topology --quick").command,
            Command::Topology(CompareOptions { quick: true, .. })
        ));
    }

    #[test]
    fn every_option_of_routing_arrives() {
        let Command::Routing(options) = job("routing --patterns 1_000 --quick --check --cores 0").command
        else {
            panic!("not routing")
        };
        let expected =
            RoutingOptions { patterns: Some(1_000), quick: true, check: true, cores: Some(vec![0]) };
        assert_eq!(options, expected);
    }

    #[test]
    fn throughput_knows_no_rate() {
        let Command::Throughput(load) = job("throughput --duration 1").command else {
            panic!("not throughput")
        };
        assert_eq!(load.rate, Rate::Max);
        let words = ["ringmain-bench", "throughput", "--rate", "1"].map(OsString::from);
        assert!(matches!(parse(words), Err(Error::Usage(_))));
    }
}
