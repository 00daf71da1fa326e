# SPDX-License-Identifier: Apache-2.0
# The Debian package: `make deb`. It packs what is built; its files are in deploy/debian.
set(debian ${CMAKE_SOURCE_DIR}/deploy/debian)
set(CMAKE_SKIP_INSTALL_ALL_DEPENDENCY TRUE)
set(doc usr/share/doc/flexiconnect)

install(TARGETS flexiconnect RUNTIME DESTINATION usr/bin COMPONENT deb)
install(FILES ${debian}/flexiconnect.service ${debian}/flexiconnect@.service ${debian}/flexiconnect.socket ${debian}/flexiconnect@broker.socket
        DESTINATION usr/lib/systemd/system COMPONENT deb)
install(FILES ${debian}/token-key.conf DESTINATION usr/lib/systemd/system/flexiconnect@authentication.service.d COMPONENT deb)
install(FILES ${debian}/sysusers.conf DESTINATION usr/lib/sysusers.d RENAME flexiconnect.conf COMPONENT deb)
install(FILES ${debian}/sysctl.conf DESTINATION usr/lib/sysctl.d RENAME 00-flexiconnect.conf COMPONENT deb)
file(GLOB settings CONFIGURE_DEPENDS ${debian}/*.env ${debian}/*.toml)
install(FILES ${settings} DESTINATION etc/flexiconnect PERMISSIONS OWNER_READ OWNER_WRITE COMPONENT deb)
install(FILES ${debian}/copyright ${CMAKE_SOURCE_DIR}/README.md ${CMAKE_SOURCE_DIR}/docs/packages.md ${CMAKE_SOURCE_DIR}/docs/operations.md
              ${CMAKE_SOURCE_DIR}/docs/errors.md ${CMAKE_SOURCE_DIR}/docs/custom-actions.md ${CMAKE_SOURCE_DIR}/docs/grpc.md ${CMAKE_SOURCE_DIR}/docs/rpc.md
        DESTINATION ${doc} COMPONENT deb)
install(FILES ${debian}/lintian-overrides DESTINATION usr/share/lintian/overrides RENAME flexiconnect COMPONENT deb)
install(DIRECTORY ${CMAKE_SOURCE_DIR}/schemas/ DESTINATION usr/share/flexiconnect/schemas COMPONENT deb
        FILES_MATCHING PATTERN "*.proto" PATTERN "*.capnp" PATTERN "*.yaml" PATTERN "*.sql")

# What is made of the program itself, or wants to be compressed.
configure_file(${debian}/changelog ${CMAKE_BINARY_DIR}/debian/changelog @ONLY)
install(CODE "
  set(root \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}\")
  function(make_of_program shell file)
    execute_process(COMMAND \"${CMAKE_BINARY_DIR}/flexiconnect\" completion \${shell} OUTPUT_VARIABLE text COMMAND_ERROR_IS_FATAL ANY)
    file(WRITE \"\${root}/\${file}\" \"\${text}\")
  endfunction()
  make_of_program(bash usr/share/bash-completion/completions/flexiconnect)
  make_of_program(zsh usr/share/zsh/vendor-completions/_flexiconnect)
  make_of_program(fish usr/share/fish/vendor_completions.d/flexiconnect.fish)
  function(compress from file)
    get_filename_component(folder \"\${root}/\${file}\" DIRECTORY)
    file(MAKE_DIRECTORY \"\${folder}\")
    execute_process(COMMAND gzip -9nc \"\${from}\" OUTPUT_FILE \"\${root}/\${file}\" COMMAND_ERROR_IS_FATAL ANY)
  endfunction()
  compress(\"${debian}/flexiconnect.1\" usr/share/man/man1/flexiconnect.1.gz)
  compress(\"${CMAKE_BINARY_DIR}/debian/changelog\" ${doc}/changelog.gz)
  compress(\"${CMAKE_SOURCE_DIR}/CHANGELOG.md\" ${doc}/CHANGELOG.md.gz)
" COMPONENT deb)

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME flexiconnect)
set(CPACK_PACKAGE_CONTACT "FlexiConnect <maintainers@flexiconnect.invalid>" CACHE STRING "Who maintains the package")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "one message, any transport, stored once")
set(CPACK_PACKAGE_DESCRIPTION "FlexiConnect takes requests by HTTP, gRPC, RPC and AMQP, hands each to the
service that owns it over the transport that the caller asks for, and
neither loses nor doubles what it has accepted.
It runs as one process with embedded stores, or as six services on
PostgreSQL, MongoDB, RabbitMQ and SMTP.")
set(CPACK_PACKAGE_DIRECTORY ${CMAKE_BINARY_DIR})
set(CPACK_PACKAGING_INSTALL_PREFIX /)
set(CPACK_STRIP_FILES TRUE)
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
set(CPACK_COMPONENTS_ALL deb)
set(CPACK_COMPONENTS_GROUPING ALL_COMPONENTS_IN_ONE)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION net)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_DEPENDS "init-system-helpers (>= 1.54), systemd | systemd-standalone-sysusers | systemd-sysusers")
set(CPACK_DEBIAN_PACKAGE_RECOMMENDS "systemd, ca-certificates")
set(CPACK_DEBIAN_PACKAGE_SUGGESTS "postgresql, rabbitmq-server")
set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA ${debian}/conffiles ${debian}/postinst ${debian}/prerm ${debian}/postrm)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION TRUE)
include(CPack)
