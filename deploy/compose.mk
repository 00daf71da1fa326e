# SPDX-License-Identifier: Apache-2.0
# One Docker host: deploy/compose.yaml; docs/containers.md says more. BuildKit builds, by Compose v2 or docker-compose 1.29.
IMAGES ?= $(or $(REGISTRY),flexiconnect)
TAG ?= latest
PORT ?= 80
SERVICE ?=
COMPOSE ?= $(if $(shell docker compose version 2>/dev/null),docker compose,docker-compose)
# A further Compose file of your own, over ours.
OVERRIDE ?=
STACK_OF_CONTAINERS = $(COMPOSE) -p flexiconnect -f deploy/compose.yaml $(addprefix -f ,$(OVERRIDE))
SECRETS ?= deploy/secrets
OWN_IMAGES := broker-service authentication-service logger-service mail-service listener-service front-end micro-caddy
WAIT ?= 300

CONTAINER_TARGETS := up up-build down service-build start stop logs ps push images secrets
# For these targets alone: what else make runs shall not see them.
$(CONTAINER_TARGETS): export IMAGES := $(IMAGES)
$(CONTAINER_TARGETS): export TAG := $(TAG)
$(CONTAINER_TARGETS): export SECRETS_FOLDER := $(abspath $(SECRETS))
$(CONTAINER_TARGETS): export DOCKER_BUILDKIT := 1
$(CONTAINER_TARGETS): export COMPOSE_DOCKER_CLI_BUILD := 1

.PHONY: $(CONTAINER_TARGETS)

secrets: ## make the secrets of deploy/compose.yaml that are missing, in deploy/secrets
	@deploy/make-secrets $(SECRETS)

images: ## build all images as flexiconnect/<service>:latest (REGISTRY=… TAG=… for other names)
	@for image in $(OWN_IMAGES); do echo "$(IMAGES)/$$image:$(TAG)"; \
	  docker build --quiet --file deploy/Dockerfile --target $$image --build-arg VERSION=$(TAG) --tag $(IMAGES)/$$image:$(TAG) . || exit 1; done

up: secrets ## start everything in containers, with the images that are there, and wait until all is healthy
	$(STACK_OF_CONTAINERS) up -d --no-build
	@deploy/compose-wait $(WAIT) $(STACK_OF_CONTAINERS)

up-build: images ## build the images, then up
	@$(MAKE) --no-print-directory up

down: ## stop and remove the containers; volumes stay (ARGS=-v removes them, too)
	$(STACK_OF_CONTAINERS) down $(ARGS)

service-build: ## build the image of SERVICE=… anew, and run it in place of the old one
	$(if $(SERVICE),,$(error say SERVICE=…, e.g. make service-build SERVICE=logger-service))docker build --file deploy/Dockerfile --target $(patsubst caddy,micro-caddy,$(SERVICE)) \
	  --build-arg VERSION=$(TAG) --tag $(IMAGES)/$(patsubst caddy,micro-caddy,$(SERVICE)):$(TAG) .
	$(STACK_OF_CONTAINERS) up -d --no-build --no-deps $(patsubst micro-caddy,caddy,$(SERVICE))

start: ## start the front end alone, on :80 (PORT= for another)
	docker run --detach --rm --name flexiconnect-start --read-only --cap-drop ALL --security-opt no-new-privileges --publish $(PORT):80 \
	  --env BROKER_URL=$(or $(BROKER_URL),http://localhost:8080) $(IMAGES)/front-end:$(TAG)
	@echo "the page: http://localhost$(if $(filter 80,$(PORT)),,:$(PORT))"

stop: ## stop the front end that start started
	docker stop --time 15 flexiconnect-start

logs: ## follow the containers' logs (SERVICE=… of one)
	$(STACK_OF_CONTAINERS) logs --tail 100 --follow $(SERVICE)

ps: ## list the containers
	@$(STACK_OF_CONTAINERS) ps

push: ## build the images and push them to REGISTRY=… as TAG=…
	$(if $(REGISTRY),,$(error say REGISTRY=…, e.g. make push REGISTRY=registry.example.com/flexiconnect TAG=1))@$(MAKE) --no-print-directory images
	@for image in $(OWN_IMAGES); do docker push $(IMAGES)/$$image:$(TAG) || exit 1; done
