#include <tendril/trainer/callbacks/reporters/make_reporters.h>

#include <set>

#include <tendril/core/error.h>
#include <tendril/trainer/callbacks/reporters/csv.h>
#include <tendril/trainer/callbacks/reporters/html.h>
#include <tendril/trainer/callbacks/reporters/jsonl.h>
#include <tendril/trainer/callbacks/reporters/run_folder.h>
#include <tendril/trainer/callbacks/reporters/tensorboard.h>

namespace tendril {
namespace {

std::set<std::string> wanted_names(const std::vector<std::string>& report_to) {
  const std::set<std::string> all = {"jsonl", "csv", "tensorboard", "html"};
  std::set<std::string> wanted;
  for (const std::string& name : report_to) {
    TENDRIL_CHECK(name != "none" || report_to.size() == 1,
                  "[report_to] \"none\" stands alone; got other reporters beside it");
    TENDRIL_CHECK(name == "none" || name == "all" || all.contains(name),
                  "[report_to] unknown reporter; got \"", name,
                  "\"; choose from jsonl, csv, tensorboard, html, all, none");
    if (name == "all") wanted = all;
    if (all.contains(name)) wanted.insert(name);
  }
  return wanted;
}

}  // namespace

std::vector<std::shared_ptr<TrainerCallback>> make_reporters(const TrainingArguments& args,
                                                             const std::string& folder) {
  const std::set<std::string> wanted = wanted_names(args.report_to);
  std::vector<std::shared_ptr<TrainerCallback>> reporters;
  if (wanted.contains("jsonl"))
    reporters.push_back(std::make_shared<JsonlReporter>(folder + "/log.jsonl"));
  if (wanted.contains("csv"))
    reporters.push_back(std::make_shared<CsvReporter>(folder + "/log.csv"));
  if (wanted.contains("tensorboard"))
    reporters.push_back(std::make_shared<TensorBoardReporter>(
        args.logging_dir.value_or(folder + "/" + run_folder_name())));
  if (wanted.contains("html"))
    reporters.push_back(std::make_shared<HtmlReporter>(folder + "/report.html"));
  return reporters;
}

}  // namespace tendril
