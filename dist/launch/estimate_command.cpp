// The command line and the table of `tendril-launch estimate`.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <iomanip>
#include <sstream>

#include <tendril/core/error.h>
#include <tendril/core/file.h>
#include <tendril/core/json.h>
#include <tendril/dist/launch/estimate.h>
#include <tendril/dist/launch/model_size.h>
#include <tendril/dist/launch/read_value.h>

namespace tendril::launch {
namespace {

constexpr double kGigabyte = 1e9;

struct Request {
  std::string params, model, dtype = "bf16", reduce_dtype, optimizer = "adamw";
  std::vector<std::string> strategies;
  std::string offload_optimizer = "none", offload_param = "none";
  EstimateOptions options;
  double tokens = 0, tflops = 0;
};

// "124M", "7B", "1.5e9"
double read_count(std::string text) {
  double scale = 1;
  if (!text.empty()) {
    const std::string suffixes = "KMBT";
    const size_t index = suffixes.find(uppercase(text.substr(text.size() - 1)));
    for (size_t i = 0; index != std::string::npos && i <= index; ++i) scale *= 1000;
    if (index != std::string::npos) text.pop_back();
  }
  double value = 0;
  read_value(value, text, "[launch] --params");
  TENDRIL_CHECK(value > 0, "[launch] --params must be above 0, as in 124M or 7B; got ", text);
  return value * scale;
}

void declare(CLI::App& app, Request& request) {
  EstimateOptions& o = request.options;
  app.add_option("--params", request.params, "Parameters, as in 124M or 7B");
  app.add_option("--model", request.model, "A config.json (gpt2, llama, mistral, bert), instead");
  app.add_option("--strategy", request.strategies,
                 "ddp, zero1, zero2, zero3, full_shard, shard_grad_op, hybrid_shard, "
                 "hybrid_shard_zero2; default: all")
      ->delimiter(',');
  app.add_option("--num_processes", o.ranks, "Ranks on all machines together");
  app.add_option("--num_machines", o.machines, "Machines");
  app.add_option("--optimizer", request.optimizer,
                 "adamw, adamw_8bit, lion, lion_8bit, muon, sgd, sgd_momentum, adafactor, adalomo");
  app.add_option(
      "--dtype", request.dtype,
      "bf16 or fp16 (f32 masters), fp32, bf16_pure (no masters), autocast (f32 weights)");
  app.add_option("--reduce_dtype", request.reduce_dtype, "fp32 or bf16: gradients on the wire");
  app.add_option("--largest_unit", o.largest_unit, "Parameters of the largest gathered unit");
  app.add_option("--gradient_accumulation_steps", o.micro_batches, "Batches per optimizer step");
  app.add_option("--offload_optimizer_device", request.offload_optimizer, "none or cpu");
  app.add_option("--offload_param_device", request.offload_param, "none or cpu (stage 3)");
  app.add_option("--link_gbps", o.link_gbps, "Gigabits/s a rank sends within a machine");
  app.add_option("--network_gbps", o.network_gbps, "Gigabits/s a machine sends to others");
  app.add_option("--tokens", request.tokens, "Tokens of one step, of all ranks together");
  app.add_option("--tflops", request.tflops, "What a rank computes, in 1e12 operations/s");
}

void check(const Request& request) {
  const EstimateOptions& o = request.options;
  TENDRIL_CHECK(request.params.empty() != request.model.empty(),
                "[launch] estimate needs either --params, as in 124M, or --model config.json");
  TENDRIL_CHECK(o.micro_batches >= 1,
                "[launch] --gradient_accumulation_steps must be at least 1; got ", o.micro_batches);
  for (const std::string& device : {request.offload_optimizer, request.offload_param})
    TENDRIL_CHECK(device == "none" || device == "cpu",
                  "[launch] offloading goes to none or cpu; got ", device);
  for (const double number :
       {o.link_gbps, o.network_gbps, o.largest_unit, request.tokens, request.tflops})
    TENDRIL_CHECK(number >= 0, "[launch] speeds and counts must not be negative; got ", number);
  const std::string& reduce = request.reduce_dtype;
  TENDRIL_CHECK(reduce.empty() || reduce == "fp32" || reduce == "bf16" || reduce == "fp16",
                "[launch] --reduce_dtype must be fp32, bf16 or fp16; got ", reduce);
}

void complete(Request& request) {
  EstimateOptions& o = request.options;
  if (request.params.empty()) {
    const ModelSize size =
        model_size(Json::parse(read_text_file(request.model), request.model), request.model);
    o.parameters = size.parameters;
    if (o.largest_unit == 0) o.largest_unit = size.largest_unit;
  } else {
    o.parameters = read_count(request.params);
  }
  o.precision = precision_from(request.dtype);
  o.state = optimizer_bytes(request.optimizer, o.precision);
  if (!request.reduce_dtype.empty())
    o.precision.wire_gradient = request.reduce_dtype == "fp32" ? 4 : 2;
  o.offload_optimizer = request.offload_optimizer == "cpu";
  o.offload_params = request.offload_param == "cpu";
  if (!request.strategies.empty()) return;
  request.strategies = {"ddp", "zero1", "zero2", "zero3"};
  if (o.machines > 1) {
    request.strategies.emplace_back("hybrid_shard");
    request.strategies.emplace_back("hybrid_shard_zero2");
  }
}

std::string fixed(double value, int digits) {
  std::ostringstream text;
  text.imbue(std::locale::classic());
  text << std::fixed << std::setprecision(digits) << value;
  return text.str();
}

std::string gigabytes(double bytes) { return fixed(bytes / kGigabyte, 2); }

std::string heading(const Request& request) {
  const EstimateOptions& o = request.options;
  std::ostringstream text;
  text.imbue(std::locale::classic());
  text << fixed(o.parameters, 0) << " parameters, " << request.optimizer << ", " << request.dtype
       << ": " << o.precision.weight << " + " << o.precision.gradient << " + "
       << o.precision.master + o.state << " bytes each (weights, gradients, optimizer); " << o.ranks
       << " ranks on " << o.machines << (o.machines == 1 ? " machine" : " machines") << ".\n"
       << "GB (1e9 bytes) of each rank, without activations; what it sends per optimizer step, and "
          "how long that takes alone.\n\n";
  return text.str();
}

std::vector<std::string> row(const Request& request, const Estimate& e) {
  std::vector<std::string> cells = {e.strategy,
                                    gigabytes(e.weights),
                                    gigabytes(e.gradients),
                                    gigabytes(e.optimizer),
                                    gigabytes(e.gathered),
                                    gigabytes(e.device()),
                                    gigabytes(e.host),
                                    gigabytes(e.wire),
                                    gigabytes(e.wire_between),
                                    e.seconds < 0 ? "?" : fixed(e.seconds * 1e3, 1)};
  if (request.tokens > 0)
    cells.push_back(e.seconds > 0 ? fixed(request.tokens / e.seconds, 0) : "?");
  return cells;
}

std::string table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths(rows[0].size());
  for (const auto& cells : rows)
    for (size_t i = 0; i < cells.size(); ++i) widths[i] = std::max(widths[i], cells[i].size());
  std::ostringstream text;
  for (const auto& cells : rows) {
    for (size_t i = 0; i < cells.size(); ++i)
      text << (i == 0 ? std::left : std::right) << std::setw(static_cast<int>(widths[i]))
           << cells[i] << (i + 1 < cells.size() ? "  " : "\n");
  }
  return text.str();
}

// 6 operations per parameter and token, forward and backward.
std::string compute_line(const Request& request) {
  if (request.tokens == 0 || request.tflops == 0) return "";
  const double operations = 6 * request.options.parameters * request.tokens;
  const double seconds =
      operations / (request.tflops * 1e12 * static_cast<double>(request.options.ranks));
  return "\nComputing takes " + fixed(seconds * 1e3, 1) +
         " ms per step (6 P operations a token).\n";
}

}  // namespace

std::string estimate_command(const std::vector<std::string>& words) {
  CLI::App app("Memory of each rank, and what a step sends, for a model and a strategy",
               "tendril-launch estimate");
  Request request;
  declare(app, request);
  try {
    app.parse(std::vector<std::string>(words.rbegin(), words.rend()));
  } catch (const CLI::CallForHelp&) {
    return app.help();
  } catch (const CLI::ParseError& mistake) {
    fail("[launch] estimate: ", mistake.what());
  }
  check(request);
  complete(request);
  std::vector<std::vector<std::string>> rows = {{"strategy", "weights", "gradients", "optimizer",
                                                 "gathered", "device", "host", "sent",
                                                 "between machines", "ms"}};
  if (request.tokens > 0) rows[0].emplace_back("tokens/s at most");
  for (const std::string& strategy : request.strategies)
    rows.push_back(row(request, estimate(strategy, request.options)));
  return heading(request) + table(rows) + compute_line(request);
}

}  // namespace tendril::launch
