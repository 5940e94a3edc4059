// Configurations that contradict themselves or ask for what there is not.
#include <doctest/doctest.h>

#include "dist/launch/launch_tools.h"

using namespace tendril;
using namespace tendril::launch;
using namespace tendril::launch::testing;

TEST_SUITE("launch_refusals") {
  TEST_CASE("distributed types that cannot be served") {
    const auto problem = [](const std::string& type) {
      return plan_error({"--distributed_type", type}, gpu_machine(2));
    };
    CHECK(contains_text(problem("MEGATRON_LM"), "tensor and pipeline parallelism"));
    CHECK(contains_text(problem("XLA"), "no TPU back end"));
    CHECK(contains_text(problem("MULTI_NPU"), "use MULTI_CPU or MULTI_GPU"));
    CHECK(contains_text(problem("FDSP"), "did you mean FSDP?"));
  }

  TEST_CASE("counts, ranks and ports that contradict each other") {
    const Machine four = gpu_machine(4);
    CHECK(contains_text(plan_error({"--num_processes=0"}, four), "between 1 and"));
    CHECK(contains_text(plan_error({"--num_processes=-1"}, four), "got -1"));
    CHECK(
        contains_text(plan_error({"--multi_gpu", "--num_processes=1"}, four), "at least 2; got 1"));
    CHECK(contains_text(plan_error({"--multi_gpu", "--num_processes=2", "--gpu_ids=1"}, four),
                        "more than one in gpu_ids; got 1"));
    CHECK(contains_text(plan_error({"--num_processes=5"}, four),
                        "5 processes on this machine and 4"));
    CHECK(contains_text(plan_error({"--num_processes=3", "--gpu_ids=0,1"}, four), "and 2 GPUs"));
    CHECK(contains_text(plan_error({"--module", "--no_python"}, four), "exclude each other"));
    CHECK(contains_text(plan_error({"--mixed_precision=fp8"}, four), "fp8 is not in this version"));
    CHECK(contains_text(plan_error({"--distributed_type=NO", "--num_processes=2"}, four),
                        "NO is one process"));
    const Words two = {"--num_processes=8", "--num_machines=2", "--main_process_ip=h",
                       "--main_process_port=1234"};
    const auto more = [&](const std::string& word) {
      Words words = two;
      words.push_back(word);
      return words;
    };
    CHECK(plan_error(two, four) == "");
    CHECK(contains_text(plan_error(more("--machine_rank=2"), four),
                        "between 0 and num_machines - 1"));
    CHECK(contains_text(plan_error(more("--main_process_port=0"), four), "and no port"));
    CHECK(
        contains_text(plan_error(more("--main_process_port=65536"), four), "between 0 and 65535"));
    CHECK(contains_text(plan_error(more("--num_processes=7"), four), "multiple of num_machines"));
    CHECK(contains_text(plan_error({"--num_processes=8", "--num_machines=2"}, four),
                        "got no address and no port"));
    CHECK(contains_text(plan_error(more("--cpu"), four), "give --hosts or --mpirun_hostfile"));
    Machine busy = four;
    busy.is_port_free = [](int) { return false; };
    busy.free_port = [] { return 4711; };
    CHECK(contains_text(plan_error(two, busy), "port 1234 of this machine"));
    CHECK(plan_error(more("--machine_rank=1"), busy) == "");  // it is machine 0's
    const Plan plan = plan_of({"--num_processes=2"}, busy);
    CHECK(plan.run.master_port == 4711);
    CHECK(contains_text(plan.run.warnings.at(0), "port 29500 is in use; taking 4711"));
    CHECK(plan_of({"--num_processes=2", "--main_process_port=0"}, busy).run.warnings.empty());
  }

  TEST_CASE("FSDP's keys must agree") {
    const auto problem = [](Words words) {
      words.insert(words.begin(), {"--use_fsdp", "--num_processes=4"});
      return plan_error(words, gpu_machine(4));
    };
    CHECK(problem({}) == "");
    CHECK(contains_text(problem({"--fsdp_version=3"}), "must be 1 or 2; got 3"));
    CHECK(contains_text(problem({"--fsdp_sync_module_states=false"}), "turn on both, or neither"));
    CHECK(
        contains_text(problem({"--fsdp_version=2", "--fsdp_forward_prefetch"}), "fsdp_version 1"));
    CHECK(contains_text(problem({"--fsdp_version=2", "--fsdp_state_dict_type=LOCAL_STATE_DICT"}),
                        "use SHARDED_STATE_DICT"));
    CHECK(contains_text(problem({"--parallelism_config_dp_shard_size=2"}), "fsdp_version 2"));
    CHECK(contains_text(problem({"--fsdp_version=2", "--parallelism_config_dp_shard_size=3"}),
                        "must be num_processes, 4; got 1 times 3"));
    const Plan plan = plan_of(
        {"--use_fsdp", "--num_processes=4", "--fsdp_version=2", "--fsdp_use_orig_params=true",
         "--fsdp_reshard_after_forward=false", "--parallelism_config_dp_shard_size=2",
         "--parallelism_config_dp_replicate_size=2"},
        gpu_machine(4));
    const Environment& variables = plan.processes[0].variables;
    CHECK(contains_text(plan.run.warnings.at(0), "fsdp_use_orig_params have no effect"));
    CHECK(!variables.contains("FSDP_SHARDING_STRATEGY"));
    CHECK(variables.at("FSDP_RESHARD_AFTER_FORWARD") == "false");
    CHECK(variables.at("PARALLELISM_CONFIG_DP_SHARD_SIZE") == "2");
  }

  TEST_CASE("DeepSpeed's keys must agree, with each other and with its file") {
    const InFixtures here;
    const auto problem = [](Words words) {
      words.insert(words.begin(), {"--use_deepspeed", "--num_processes=4"});
      return plan_error(words, gpu_machine(4));
    };
    CHECK(contains_text(problem({"--zero_stage=4"}), "must be 0, 1, 2 or 3; got 4"));
    CHECK(contains_text(problem({"--gradient_accumulation_steps=0"}), "at least 1; got 0"));
    CHECK(contains_text(problem({"--gradient_accumulation_steps=some"}), "whole number"));
    CHECK(contains_text(problem({"--gradient_clipping=-1"}), "at least 0"));
    CHECK(contains_text(problem({"--offload_param_device=nvme"}), "use cpu"));
    const std::string file = "--deepspeed_config_file=zero3.json";
    CHECK(problem({file}) == "");
    CHECK(contains_text(problem({file, "--zero_stage=3", "--gradient_clipping=1"}),
                        "nowhere else: gradient_clipping, zero_stage; move them to zero3.json"));
    CHECK(contains_text(problem({"--deepspeed_config_file=nowhere.json"}), "nowhere.json"));
    const TemporaryFolder folder;
    const std::string yaml = folder.file("c.yaml"), json = folder.file("d.json");
    write_bytes(yaml, "mixed_precision: bf16\n");
    CHECK(contains_text(problem({file, "--config_file", yaml}), "nowhere else: mixed_precision"));
    CHECK(problem({file, "--mixed_precision=bf16"}) == "");
    write_bytes(json, R"({"fp16": {"enabled": true}, "zero_optimization": {"stage": 2}})");
    CHECK(contains_text(problem({"--deepspeed_config_file", json, "--mixed_precision=bf16"}),
                        "enables fp16"));
    CHECK(problem({"--deepspeed_config_file", json, "--mixed_precision=fp16"}) == "");
    write_bytes(json, "{}");
    CHECK(contains_text(problem({"--deepspeed_config_file", json}), "has no zero_optimization"));
  }

  TEST_CASE("programs that cannot be started") {
    const TemporaryFolder folder;
    write_bytes(folder.file("train.sh"), "echo\n");
    const auto problem = [](const Words& words) {
      return error_of([&] { make_plan(read_config(words, {}), {}, gpu_machine(1)); });
    };
    CHECK(contains_text(problem({}), "no program is named"));
    CHECK(contains_text(problem({"/nonexistent/program"}), "there is no program"));
    CHECK(contains_text(problem({folder.file("train.sh")}), "make it executable"));
  }
}
