// Where the launcher's configuration comes from, and what is refused.
#include <doctest/doctest.h>

#include <tendril/dist/launch/keys.h>
#include <tendril/dist/launch/write_config.h>

#include "dist/launch/launch_tools.h"

using namespace tendril;
using namespace tendril::launch;
using namespace tendril::launch::testing;

TEST_SUITE("launch_config") {
  TEST_CASE("the command line comes before the environment, the file and the defaults") {
    const std::string yaml =
        "num_processes: 3\nmixed_precision: fp16\nfsdp_config:\n  fsdp_version: 2\n";
    const Environment environment = {{"ACCELERATE_NUM_PROCESSES", "4"}, {"FSDP_VERSION", "1"}};
    CHECK(config_of("").num_processes.has_value() == false);
    CHECK(config_of(yaml).num_processes == 3);
    CHECK(config_of(yaml, {}, environment).num_processes == 4);
    CHECK(config_of(yaml, {}, environment).fsdp_version == 1);
    const LaunchConfig config = config_of(yaml, {"--num_processes", "5"}, environment);
    CHECK(config.num_processes == 5);
    CHECK(config.mixed_precision == "fp16");
    CHECK(config.source("num_processes") == Source::command_line);
    CHECK(config.source("fsdp_version") == Source::environment);
    CHECK(config.source("mixed_precision") == Source::file);
    CHECK(config.source("machine_rank") == Source::defaults);
    // Keys whose flag has a default of its own come from the file as well.
    CHECK(config_of("enable_cpu_affinity: true\nmax_restarts: 2").max_restarts == 2);
    CHECK(config_of("enable_cpu_affinity: true").enable_cpu_affinity);
  }

  TEST_CASE("flags are written with a space or an equals sign, and end at the program") {
    const LaunchConfig config = read_config({"--num_processes=2", "--use_fsdp", "--mixed_precision",
                                             "bf16", "prog", "--use_fsdp", "-x", "--", "a b"},
                                            {});
    CHECK(config.num_processes == 2);
    CHECK(config.use_fsdp);
    CHECK(config.mixed_precision == "bf16");
    CHECK(config.command == Words{"prog", "--use_fsdp", "-x", "--", "a b"});
    CHECK(read_config({"--debug=false", "prog"}, {}).debug == false);
    CHECK(read_config({"-m", "prog"}, {}).module);
    CHECK(read_config({"-t", "3", "prog"}, {}).tee == "3");
    CHECK(read_config({"--fsdp_offload_params", "prog"}, {}).fsdp_offload_params);
    CHECK(read_config({"--fsdp_offload_params", "true", "prog"}, {}).command == Words{"prog"});
    CHECK(!read_config({"--fsdp_use_orig_params", "False", "prog"}, {}).fsdp_use_orig_params);
    CHECK(read_config({"--use_fsdp", "true"}, {}).command == Words{"true"});
    CHECK(read_config({"--", "-odd"}, {}).command == Words{"-odd"});
    CHECK(contains_text(error_of([] {
                          read_config({"--log_dir", "--use_fsdp", "p"}, {});
                        }),
                        "--log_dir needs a value"));
  }

  TEST_CASE("strategies by name or number, obsolete and unprefixed names") {
    const auto strategy = [](const std::string& text) {
      return config_of("fsdp_config: {fsdp_sharding_strategy: " + text + "}")
          .fsdp_sharding_strategy;
    };
    CHECK(strategy("1") == "FULL_SHARD");
    CHECK(strategy("5") == "HYBRID_SHARD_ZERO2");
    CHECK(strategy("'shard_grad_op'") == "SHARD_GRAD_OP");
    CHECK(contains_text(error_of([&] { strategy("6"); }), "number from 1 to 5; got \"6\""));
    const auto prefetch = [](const std::string& name) {
      return config_of("fsdp_config: {" + name + ": BACKWARD_POST}").fsdp_backward_prefetch;
    };
    for (const char* name : {"fsdp_backward_prefetch", "fsdp_backward_prefetch_policy",
                             "backward_prefetch", "backward_prefetch_policy"})
      CHECK(prefetch(name) == "BACKWARD_POST");
  }

  TEST_CASE("unknown names are errors that list all of them with the nearest") {
    const std::string problem = error_of([] {
      config_of("num_proceses: 2\nfsdp_config:\n  fsdp_ofload_params: true\nnonsense_of_mine: 1\n");
    });
    CHECK(contains_text(problem, "num_proceses (line 1) (did you mean num_processes?)"));
    CHECK(contains_text(problem,
                        "fsdp_config.fsdp_ofload_params (line 3) (did you mean "
                        "fsdp_offload_params?)"));
    CHECK(contains_text(problem, "nonsense_of_mine (line 4)"));
    CHECK(contains_text(error_of([] { config_of("zero_stage: 2"); }),
                        "zero_stage (line 1), which belongs into deepspeed_config"));
    CHECK(contains_text(error_of([] { config_of("fsdp_config: {num_processes: 2}"); }),
                        "which belongs to the top level"));
    CHECK(contains_text(error_of([] { config_of("use_fsdp: true"); }),
                        "which only the command line has"));
    CHECK(contains_text(error_of([] {
                          read_config({"--num-machine", "2", "p"}, {});
                        }),
                        "no flag --num-machine; did you mean --num_machines"));
  }

  TEST_CASE("values of the wrong kind name their place") {
    const auto problem = [](const std::string& yaml) { return error_of([&] { config_of(yaml); }); };
    CHECK(contains_text(problem("debug: true\nnum_machines: two"),
                        "line 2: num_machines must be a whole number; got \"two\""));
    CHECK(contains_text(problem("use_cpu: maybe"), "use_cpu must be true or false"));
    CHECK(contains_text(problem("mixed_precision: bf8"), "must be one of no, fp16, bf16, fp8"));
    CHECK(contains_text(problem("num_machines: {a: 1}"), "must be one value, not a mapping"));
    CHECK(contains_text(problem("fsdp_config: 3"), "must be a mapping"));
    CHECK(contains_text(problem("- a"), "one mapping"));
    CHECK(contains_text(problem("debug: true\ndebug: false"), "line 2: debug is set twice"));
    CHECK(contains_text(problem("debug: true\n---\ndebug: true"), "text after the configuration"));
    CHECK(contains_text(problem("debug: &a true\nuse_cpu: *a"), "aliases are not understood"));
    CHECK(contains_text(problem("debug: !!int 3"), "tags are not understood"));
    CHECK(contains_text(problem("debug: [[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]"),
                        "nested too deeply"));
    CHECK(contains_text(error_of([] {
                          read_config({"p"}, {{"FSDP_VERSION", "x"}});
                        }),
                        "FSDP_VERSION: fsdp_version must be a whole number"));
    CHECK(contains_text(error_of([] {
                          read_config({"--config_file", "/nonexistent.yaml", "p"}, {});
                        }),
                        "cannot read /nonexistent.yaml"));
    CHECK(contains_text(error_of([] { read_config({"--num_processes"}, {}); }), "num_processes"));
  }

  TEST_CASE("what means nothing here is accepted, and named when it is set") {
    const LaunchConfig usual = read_config({"--config_file", fixture("ddp.yaml")}, {});
    CHECK(usual.ignored.empty());
    const LaunchConfig config = config_of(
        "tpu_name: mine\ntpu_use_sudo: true\ndynamo_config:\n  backend: INDUCTOR\n"
        "fp8_config: {margin: 2}\nrdzv_backend: c10d\nsame_network: false\ntpu_env: [A, B]\n"
        "megatron_lm_config: {megatron_lm_tp_degree: 1}\n");
    CHECK(config.ignored ==
          Words{"tpu_name", "tpu_use_sudo", "dynamo_backend", "fp8_margin", "tpu_env"});
    CHECK(config_of("tpu_name: mine", {"--tpu_name", ""}).ignored.empty());
    CHECK(contains_text(error_of([] { config_of("dynamo_config: {bakend: x}"); }),
                        "did you mean backend?"));
  }

  TEST_CASE("what would change the results is refused with a reason") {
    const auto problem = [](const std::string& yaml) { return error_of([&] { config_of(yaml); }); };
    CHECK(contains_text(problem("ec2_instance_type: x\ncompute_environment: AMAZON_SAGEMAKER"),
                        "compute_environment AMAZON_SAGEMAKER cannot be served"));
    CHECK(contains_text(problem("parallelism_config: {parallelism_config_tp_size: 2}"),
                        "tensor parallelism is not in this version"));
    CHECK(problem("parallelism_config: {tp_size: 1}") == "");
    CHECK(contains_text(problem("deepspeed_config: {deepspeed_moe_layer_cls_names: Moe}"),
                        "mixtures of experts"));
    CHECK(contains_text(problem("deepspeed_config: {offload_param_nvme_path: /x}"), "use cpu"));
    CHECK(contains_text(error_of([] { read_config({"--tpu", "p"}, {}); }), "no TPU back end"));
    CHECK(contains_text(error_of([] {
                          read_config({"--use_megatron_lm", "p"}, {});
                        }),
                        "use --use_fsdp"));
  }

  TEST_CASE("the default file counts unless --cpu or another file is given") {
    const TemporaryFolder folder;
    write_bytes(folder.file("default_config.yaml"), "num_processes: 7\n");
    const Environment environment = {{"TENDRIL_HOME", folder.path().string()}};
    CHECK(read_config({"p"}, environment).num_processes == 7);
    CHECK(read_config({"p"}, environment).file == folder.file("default_config.yaml"));
    CHECK(!read_config({"--cpu", "p"}, environment).num_processes);
    write_bytes(
        folder.file("other.json"),
        R"({"num_processes": 6, "fsdp_config": {"fsdp_min_num_params": 1e6}, "debug": null})");
    const LaunchConfig other =
        read_config({"--config_file", folder.file("other.json"), "p"}, environment);
    CHECK(other.num_processes == 6);
    CHECK(other.fsdp_min_num_params == 1'000'000);
    CHECK(!other.is_set("debug"));
    CHECK(default_config_path({{"HOME", "/home/me"}}) ==
          "/home/me/.cache/tendril/default_config.yaml");
  }

  TEST_CASE("config writes what it reads, and documents every key that applies") {
    const LaunchConfig asked =
        read_config({"--use_fsdp", "--num_processes", "4", "--mixed_precision", "no",
                     "--fsdp_transformer_layer_cls_to_wrap", "A,B", "--log_dir", "a: b"},
                    {});
    const std::string text = config_text(asked);
    const LaunchConfig read = config_of(text);
    CHECK(read.distributed_type == "FSDP");
    CHECK(read.num_processes == 4);
    CHECK(read.mixed_precision == "no");
    CHECK(read.fsdp_transformer_layer_cls_to_wrap == "A,B");
    CHECK(read.log_dir == "a: b");
    CHECK(read.ignored.empty());
    // compute_environment and config_file besides: no key is set to its default unasked.
    CHECK(read.sources.size() == 7);
    for (const Key& key : keys())
      if (key.use == Key::Use::used && key.section != "-") {
        CHECK_MESSAGE(contains_text(text, key.name + ": "), key.name);
        CHECK(contains_text(text, key.help));
      }
    // With the comment signs away, it is a configuration still: the defaults shown are values.
    std::string everything;
    std::istringstream lines(config_text(LaunchConfig()));
    for (std::string line; std::getline(lines, line);) {
      const size_t sign = line.find("# "), colon = line.find(": ");
      const bool is_key = sign != std::string::npos && colon != std::string::npos &&
                          find_key(line.substr(sign + 2, colon - sign - 2));
      everything += (is_key ? line.substr(0, sign) + line.substr(sign + 2) : line) + "\n";
    }
    const LaunchConfig defaults = config_of(everything);
    CHECK(defaults.is_set("fsdp_version"));
    for (const Key& key : keys())
      if (key.text)
        CHECK(key.name + key.text(defaults) ==
              key.name +
                  (key.name == "config_file" ? defaults.config_file : key.text(LaunchConfig())));
  }

  TEST_CASE("docs/launch.md has the tables of keys as they are") {
    const std::string text = read_text_file(std::string(TENDRIL_SOURCE_DIR) + "/docs/launch.md");
    CHECK(contains_text(text, key_table()));
    CHECK(contains_text(text, foreign_table()));
  }
}
