# SPDX-License-Identifier: Apache-2.0
# The cluster: deploy/swarm.yml on Docker Swarm; docs/swarm.md says what each of these promises. IMAGES, TAG, SECRETS and WAIT are compose.mk's.
STACK ?= flexiconnect
PUBLISH_MODE ?= ingress
FILES ?=
N ?=

# The routing mesh wants a virtual address, and lets two tasks have one port; on a node itself a port has one holder, so the old one leaves first.
PROXY_ENDPOINT ?= $(if $(filter host,$(PUBLISH_MODE)),dnsrr,vip)
PROXY_ORDER ?= $(if $(filter host,$(PUBLISH_MODE)),stop-first,start-first)
PROXY_REPLICAS ?= $(if $(filter host,$(PUBLISH_MODE)),1,2)
# Images that are in no registry are what each node has of them.
RESOLVE = $(if $(REGISTRY),--with-registry-auth,--resolve-image never)
RESOLVE_ONE = $(if $(REGISTRY),--with-registry-auth,--no-resolve-image)
swarm_needs = $(foreach name,$(1),$(if $($(name)),,$(error say $(name)=…, e.g. make $@ $(2))))

# What deploy/swarm.yml reads.
swarm-deploy: export IMAGES := $(IMAGES)
swarm-deploy: export TAG := $(TAG)
swarm-deploy: export STACK := $(STACK)
swarm-deploy: export PUBLISH_MODE := $(PUBLISH_MODE)
swarm-deploy: export PROXY_ENDPOINT := $(PROXY_ENDPOINT)
swarm-deploy: export PROXY_ORDER := $(PROXY_ORDER)
swarm-deploy: export PROXY_REPLICAS := $(PROXY_REPLICAS)

.PHONY: swarm-init swarm-secrets swarm-deploy swarm-scale swarm-update swarm-rollback swarm-ls swarm-join-token swarm-stop swarm-rm swarm-leave

swarm-init: ## make this machine a swarm's first manager, and the one that keeps the databases (ADDRESS=the one that other nodes reach)
	docker swarm init $(if $(ADDRESS),--advertise-addr $(ADDRESS))
	docker node update --label-add flexiconnect.data=true "$$(docker info --format '{{.Swarm.NodeID}}')" >/dev/null
	@echo "This node keeps the databases' volumes. Other nodes join with what make swarm-join-token prints."

swarm-join-token: ## print the command with which another machine joins (ROLE=worker, or manager)
	@docker swarm join-token $(or $(ROLE),worker)

swarm-secrets: ## make those of the stack's secrets that the swarm lacks, from the files in deploy/secrets (SECRETS= for another folder)
	@deploy/swarm-secrets $(STACK) $(SECRETS)

swarm-deploy: swarm-secrets ## start the stack, or bring a running one to this file (REGISTRY=… TAG=… PUBLISH_MODE=ingress|host), and wait until all runs
	docker stack deploy --prune $(RESOLVE) $(foreach file,deploy/swarm.yml $(FILES),--compose-file $(file)) $(STACK)
	@deploy/swarm-wait $(STACK) $(WAIT)

swarm-scale: ## let N=… tasks of SERVICE=… run, and wait until they do
	$(call swarm_needs,SERVICE N,SERVICE=logger-service N=3)docker service scale $(STACK)_$(SERVICE)=$(N)

swarm-update: ## roll SERVICE=… to TAG=…, one task after the other; an image that does not get healthy is rolled back, and this fails
	$(call swarm_needs,SERVICE,SERVICE=broker-service TAG=2)docker service update $(RESOLVE_ONE) --detach --image $(IMAGES)/$(patsubst caddy,micro-caddy,$(SERVICE)):$(TAG) $(STACK)_$(SERVICE)
	@deploy/swarm-wait $(STACK) $(WAIT) $(SERVICE)

swarm-rollback: ## take SERVICE=… back to what it was before its last update
	$(call swarm_needs,SERVICE,SERVICE=broker-service)docker service update --rollback --detach $(STACK)_$(SERVICE)
	@deploy/swarm-wait $(STACK) $(WAIT) $(SERVICE) rollback

swarm-ls: ## list nodes, services and where their tasks run
	@docker node ls
	@docker stack services $(STACK)
	@docker stack ps --filter desired-state=running --format 'table {{.Name}}\t{{.Image}}\t{{.Node}}\t{{.CurrentState}}\t{{.Error}}' $(STACK)

swarm-stop: ## let no task of SERVICE=… run, until swarm-scale or swarm-deploy
	$(call swarm_needs,SERVICE,SERVICE=mailhog)docker service scale $(STACK)_$(SERVICE)=0

swarm-rm: ## remove the stack, and wait until its tasks have ended; volumes and secrets stay
	@deploy/swarm-remove $(STACK) $(WAIT)
	@echo "Volumes and secrets of $(STACK) stay: docker volume ls, docker secret ls."

swarm-leave: ## leave the swarm (FORCE=1 on its last manager, which ends it)
	docker swarm leave $(if $(FORCE),--force)
