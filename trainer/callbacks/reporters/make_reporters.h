// Reporters by name.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <tendril/trainer/callback.h>

namespace tendril {

/// Those that args.report_to names: jsonl, csv, tensorboard and html, all of them for "all", none
/// for "none"; Error for other names. They write log.jsonl, log.csv and report.html into `folder`
/// (the expanded output_dir), and event files into args.logging_dir or folder/runs/<date>_<host>.
/// Nothing is created before a run begins.
TENDRIL_API std::vector<std::shared_ptr<TrainerCallback>> make_reporters(
    const TrainingArguments& args, const std::string& folder);

}  // namespace tendril
