// What a configuration comes to: processes, commands and environments.
#include <doctest/doctest.h>

#include <tendril/dist/launch/output.h>
#include <tendril/dist/launch/run_plan.h>
#include <tendril/dist/launch/slurm.h>
#include <tendril/dist/launch/worker_environment.h>

#include "dist/launch/launch_tools.h"

using namespace tendril;
using namespace tendril::launch;
using namespace tendril::launch::testing;

namespace {

Words with_file(const std::string& name, Words more = {}) {
  more.insert(more.begin(), {"--config_file", fixture(name)});
  return more;
}

Environment rank_environment(int rank, int local, int size, int local_size, int machine,
                             const std::string& address, int port) {
  return {{"RANK", std::to_string(rank)},          {"LOCAL_RANK", std::to_string(local)},
          {"WORLD_SIZE", std::to_string(size)},    {"LOCAL_WORLD_SIZE", std::to_string(local_size)},
          {"GROUP_RANK", std::to_string(machine)}, {"MASTER_ADDR", address},
          {"MASTER_PORT", std::to_string(port)}};
}

Environment joined(Environment a, const Environment& b) {
  a.insert(b.begin(), b.end());
  return a;
}

const Environment kCommon = {
    {"ACCELERATE_DEBUG_MODE", "false"}, {"ACCELERATE_USE_CPU", "false"}, {"OMP_NUM_THREADS", "1"}};

bool has_word(const Plan& plan, const std::string& word) {
  const Words& words = plan.processes.at(0).command;
  return std::find(words.begin(), words.end(), word) != words.end();
}

std::string command_text(const Plan& plan) {
  std::string text;
  for (const std::string& word : plan.processes.at(0).command) text += word + " ";
  return text;
}

}  // namespace

TEST_SUITE("launch_plan") {
  TEST_CASE("data parallel on two machines") {
    const Environment shared = joined(kCommon, {{"ACCELERATE_MIXED_PRECISION", "fp16"}});
    for (int machine : {0, 1}) {
      const Plan plan = plan_of(with_file("ddp.yaml", {"--machine_rank", std::to_string(machine)}),
                                gpu_machine(4));
      REQUIRE(plan.processes.size() == 4);
      CHECK(plan.run.warnings.empty());
      for (int i = 0; i < 4; ++i) {
        const PlannedProcess& process = plan.processes[static_cast<size_t>(i)];
        CHECK(process.variables == joined(shared, rank_environment(machine * 4 + i, i, 8, 4,
                                                                   machine, "192.168.20.1", 9898)));
        CHECK(process.command == Words{"/bin/true"});
        CHECK(process.label == "rank " + std::to_string(machine * 4 + i));
      }
    }
  }

  const Environment kFsdp = {{"ACCELERATE_USE_FSDP", "true"},
                             {"ACCELERATE_MIXED_PRECISION", "bf16"},
                             {"FSDP_VERSION", "1"},
                             {"FSDP_SHARDING_STRATEGY", "FULL_SHARD"},
                             {"FSDP_RESHARD_AFTER_FORWARD", "true"},
                             {"FSDP_OFFLOAD_PARAMS", "false"},
                             {"FSDP_MIN_NUM_PARAMS", "100000000"},
                             {"FSDP_AUTO_WRAP_POLICY", "TRANSFORMER_BASED_WRAP"},
                             {"FSDP_TRANSFORMER_CLS_TO_WRAP", "BertLayer"},
                             {"FSDP_BACKWARD_PREFETCH", "BACKWARD_PRE"},
                             {"FSDP_STATE_DICT_TYPE", "FULL_STATE_DICT"},
                             {"FSDP_FORWARD_PREFETCH", "true"},
                             {"FSDP_USE_ORIG_PARAMS", "true"},
                             {"FSDP_CPU_RAM_EFFICIENT_LOADING", "true"},
                             {"FSDP_SYNC_MODULE_STATES", "true"},
                             {"FSDP_ACTIVATION_CHECKPOINTING", "false"}};

  TEST_CASE("FSDP from a file, and the same from flags") {
    const Plan plan = plan_of(with_file("fsdp.yaml"), gpu_machine(2));
    REQUIRE(plan.processes.size() == 2);
    CHECK(plan.run.warnings.empty());
    CHECK(plan.processes[1].variables ==
          joined(joined(kCommon, kFsdp), rank_environment(1, 1, 2, 2, 0, "127.0.0.1", 29500)));
    const Plan flags =
        plan_of({"--num_processes=2", "--use_fsdp", "--mixed_precision=bf16",
                 "--fsdp_auto_wrap_policy=TRANSFORMER_BASED_WRAP",
                 "--fsdp_transformer_layer_cls_to_wrap=BertLayer", "--fsdp_sharding_strategy=1",
                 "--fsdp_state_dict_type=FULL_STATE_DICT", "--fsdp_backward_prefetch=BACKWARD_PRE",
                 "--fsdp_forward_prefetch"},
                gpu_machine(2));
    CHECK(flags.processes[1].variables == plan.processes[1].variables);
  }

  TEST_CASE("DeepSpeed with a file of its own") {
    const InFixtures here;
    const Plan plan = plan_of(with_file("deepspeed_file.yaml"), gpu_machine(4));
    REQUIRE(plan.processes.size() == 4);
    CHECK(plan.run.warnings.empty());
    const Environment expected = {
        {"ACCELERATE_USE_DEEPSPEED", "true"},
        {"ACCELERATE_DEEPSPEED_CONFIG_FILE", "zero3.json"},
        {"ACCELERATE_DEEPSPEED_ZERO3_INIT", "true"},
        {"ACCELERATE_CONFIG_DS_FIELDS", "deepspeed_config_file,zero3_init_flag"}};
    CHECK(plan.processes[0].variables ==
          joined(joined(kCommon, expected), rank_environment(0, 0, 4, 4, 0, "127.0.0.1", 29500)));
  }

  TEST_CASE("DeepSpeed without a file") {
    const Plan plan = plan_of(with_file("deepspeed_plugin.yaml"), gpu_machine(4));
    const Environment expected = {
        {"ACCELERATE_USE_DEEPSPEED", "true"},
        {"ACCELERATE_MIXED_PRECISION", "bf16"},
        {"ACCELERATE_DEEPSPEED_ZERO_STAGE", "2"},
        {"ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE", "cpu"},
        {"ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE", "cpu"},
        {"ACCELERATE_DEEPSPEED_ZERO3_INIT", "false"},
        {"ACCELERATE_DEEPSPEED_ZERO3_SAVE_16BIT_MODEL", "false"},
        {"ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1"},
        {"ACCELERATE_GRADIENT_CLIPPING", "0.7"},
        {"ACCELERATE_CONFIG_DS_FIELDS",
         "mixed_precision,zero_stage,offload_optimizer_device,offload_param_device,"
         "gradient_accumulation_steps,gradient_clipping,zero3_init_flag"}};
    CHECK(plan.processes[3].variables ==
          joined(joined(kCommon, expected), rank_environment(3, 3, 4, 4, 0, "127.0.0.1", 29500)));
    REQUIRE(plan.run.warnings.size() == 2);
    CHECK(contains_text(plan.run.warnings[0], "offload_param_device has no effect"));
    CHECK(contains_text(plan.run.warnings[1], "zero3_init_flag is turned off"));
  }

  TEST_CASE("several processes on CPUs are mpirun's") {
    Machine machine = gpu_machine(0);
    machine.cores = 4;
    const Plan plan = plan_of({"--num_processes=2", "--use_fsdp"}, machine,
                              {{"RANK", "7"}, {"TENDRIL_ISA", "avx2"}, {"PATH", "/bin"}});
    REQUIRE(plan.processes.size() == 1);
    const std::string command = command_text(plan);
    CHECK(command.starts_with("/usr/bin/mpirun -n 2 --bind-to none -x ACCELERATE_DEBUG_MODE "));
    CHECK(command.ends_with(" -x TENDRIL_ISA /bin/true "));
    CHECK(!plan.processes[0].variables.contains("RANK"));
    CHECK(plan.processes[0].variables.at("ACCELERATE_USE_CPU") == "true");
    CHECK(plan.processes[0].variables.at("OMP_NUM_THREADS") == "2");
    CHECK(!has_word(plan, "--oversubscribe"));
    CHECK(has_word(plan_of({"--num_processes=5", "--use_cpu"}, machine), "--oversubscribe"));
    machine.is_root = true;
    CHECK(has_word(plan_of({"--num_processes=2", "--cpu"}, machine), "--allow-run-as-root"));
    CHECK(contains_text(
        command_text(
            plan_of({"--num_processes=4", "--num_machines=2", "--hosts", "a,b", "--cpu"}, machine)),
        "--host a:2,b:2 "));
    CHECK(contains_text(
        command_text(plan_of(
            {"--num_processes=4", "--num_machines=2", "--cpu", "--mpirun_hostfile=h"}, machine)),
        "--hostfile h "));
    CHECK(contains_text(command_text(plan_of({"--num_processes=2", "--cpu", "--enable_cpu_affinity",
                                              "--tee=3", "--log_dir=logs"},
                                             machine)),
                        "--bind-to numa --tag-output --output-filename logs "));
    // One process needs no mpirun.
    machine.mpirun = "";
    const Plan alone = plan_of({"--num_processes=1", "--cpu"}, machine);
    CHECK(alone.processes[0].command == Words{"/bin/true"});
    CHECK(!alone.processes[0].variables.contains("RANK"));
    CHECK(contains_text(plan_error({"--num_processes=2", "--cpu"}, machine), "openmpi-bin"));
  }

  TEST_CASE("nothing that the launcher owns comes from outside") {
    const Environment outside = {{"ACCELERATE_USE_FSDP", "true"},
                                 {"FSDP_VERSION", "2"},
                                 {"RANK", "9"},
                                 {"MASTER_ADDR", "x"},
                                 {"HOME", "/home/me"}};
    const Environment inside = merged(outside, {{"FSDP_VERSION", "1"}});
    CHECK(inside == Environment{{"FSDP_VERSION", "1"}, {"HOME", "/home/me"}});
  }

  TEST_CASE("a flag that names a paradigm comes before the environment's and the file's") {
    const auto paradigm = [](const Words& words, const Environment& environment) {
      return plan_of(words, gpu_machine(4), environment).run.paradigm;
    };
    const InFixtures here;
    CHECK(paradigm(with_file("fsdp.yaml"), {}) == Paradigm::fsdp);
    CHECK(paradigm(with_file("fsdp.yaml"), {{"ACCELERATE_USE_DEEPSPEED", "true"}}) ==
          Paradigm::deepspeed);
    CHECK(paradigm(with_file("deepspeed_plugin.yaml", {"--use_fsdp"}), {}) == Paradigm::fsdp);
    CHECK(paradigm(with_file("fsdp.yaml", {"--multi_gpu"}), {{"ACCELERATE_USE_DEEPSPEED", "1"}}) ==
          Paradigm::data_parallel);
    CHECK(plan_of(with_file("fsdp.yaml", {"--cpu"}), gpu_machine(4)).run.on_cpu);
    CHECK(contains_text(plan_error({"--cpu", "--use_fsdp"}, gpu_machine(1)),
                        "at most one of --cpu, --multi_gpu, --use_deepspeed and --use_fsdp"));
    CHECK(contains_text(plan_error({"--multi_gpu", "--use_deepspeed"}, gpu_machine(2)),
                        "got --multi_gpu --use_deepspeed"));
    CHECK(
        contains_text(plan_error({}, gpu_machine(1),
                                 {{"ACCELERATE_USE_FSDP", "1"}, {"ACCELERATE_USE_DEEPSPEED", "1"}}),
                      "are both true"));
  }

  TEST_CASE("what nobody says is assumed, with one warning") {
    const Plan plan = plan_of({}, gpu_machine(3));
    CHECK(plan.processes.size() == 3);
    REQUIRE(plan.run.warnings.size() == 1);
    CHECK(contains_text(plan.run.warnings[0], "num_processes 3, mixed_precision no"));
    CHECK(plan_of({}, gpu_machine(0)).processes.size() == 1);
    CHECK(plan_of({"--gpu_ids=0,2"}, gpu_machine(3))
              .processes[1]
              .variables.at("CUDA_VISIBLE_DEVICES") == "0,2");
  }

  const Environment kTask = {{"SLURM_PROCID", "5"},
                             {"SLURM_STEP_ID", "0"},
                             {"SLURM_JOB_ID", "42"},
                             {"SLURM_STEP_NUM_TASKS", "8"},
                             {"SLURM_LOCALID", "1"},
                             {"SLURM_NODEID", "1"},
                             {"SLURM_STEP_NUM_NODES", "2"},
                             {"SLURM_STEP_TASKS_PER_NODE", "4(x2)"},
                             {"SLURM_STEP_NODELIST", "gpu[03-04]"}};

  TEST_CASE("a task of srun becomes its rank") {
    const Plan plan = plan_of({}, gpu_machine(4), kTask);
    CHECK(plan.run.starter == Starter::environment);
    REQUIRE(plan.processes.size() == 1);
    CHECK(plan.processes[0].variables ==
          joined(joined(kCommon, {{"ACCELERATE_MIXED_PRECISION", "no"}}),
                 rank_environment(5, 1, 8, 4, 1, "gpu03", 10042)));
    // On CPUs MPI tells the ranks.
    CHECK(!plan_of({"--use_cpu"}, gpu_machine(4), kTask).processes[0].variables.contains("RANK"));
    // A batch script is no task, though it has most of the variables.
    Environment script = kTask;
    script.erase("SLURM_STEP_ID");
    CHECK(plan_of({}, gpu_machine(4), script).run.starter == Starter::processes);
    CHECK(contains_text(plan_error({"--num_processes=6"}, gpu_machine(4), kTask),
                        "srun started 8 tasks, but num_processes is 6"));
  }

  TEST_CASE("one task of srun per machine starts the machine's ranks") {
    Environment task = kTask;
    task["SLURM_PROCID"] = "1";
    task["SLURM_LOCALID"] = "0";
    task["SLURM_STEP_NUM_TASKS"] = "2";
    task["SLURM_STEP_TASKS_PER_NODE"] = "1(x2)";
    const Plan plan = plan_of({"--num_processes=8"}, gpu_machine(4), task);
    REQUIRE(plan.processes.size() == 4);
    for (const auto& [name, value] : rank_environment(6, 2, 8, 4, 1, "gpu03", 10042))
      CHECK(name + "=" + plan.processes[2].variables.at(name) == name + "=" + value);
  }

  TEST_CASE("a rank of mpirun stays one") {
    const Environment rank = {{"OMPI_COMM_WORLD_RANK", "1"},
                              {"OMPI_COMM_WORLD_SIZE", "4"},
                              {"OMPI_COMM_WORLD_LOCAL_SIZE", "4"}};
    const Plan plan = plan_of({}, gpu_machine(0), rank);
    CHECK(plan.run.starter == Starter::environment);
    CHECK(plan.processes[0].command == Words{"/bin/true"});
    CHECK(plan.processes[0].variables.at("OMP_NUM_THREADS") == "4");  // 16 cores for 4
    CHECK(contains_text(plan_error({"--launcher=environment"}, gpu_machine(0)), "srun or mpirun"));
  }

  TEST_CASE("Slurm's lists") {
    CHECK(first_host("gpu03") == "gpu03");
    CHECK(first_host("a,b") == "a");
    CHECK(first_host("gpu[03-05,9],login") == "gpu03");
    CHECK(first_host("rack1-n[7,9]-ib,x") == "rack1-n7-ib");
    CHECK(tasks_per_machine("4(x2),3") == std::vector<int64_t>{4, 4, 3});
    CHECK(error_of([] { tasks_per_machine("4(x"); }) != "");
    CHECK(error_of([] { first_host("gpu[3"); }) != "");
  }

  TEST_CASE("which output gets a mark") {
    CHECK(tee_of("0", 0) == 0);
    CHECK(tee_of("3", 5) == 3);
    CHECK(tee_of("0:1,2:3", 2) == 3);
    CHECK(tee_of("0:1,2:3", 1) == 0);
    CHECK(contains_text(error_of([] { tee_of("4", 0); }), "must be 0, 1, 2 or 3; got 4"));
    CHECK(contains_text(error_of([] { tee_of("0:1,2", 0); }), "local_rank:number"));
    CHECK(retagged("[1,12]<stdout>:text\n", true) == "[12] text\n");
    CHECK(retagged("[1,12]<stderr>:  indented\n", true) == "[12]   indented\n");
    CHECK(retagged("[1,0]<stdout>:[1,2]<stdout>:x\n", false) == "[1,2]<stdout>:x\n");
    CHECK(retagged("[1] text\n", true) == "[1] text\n");
  }
}
