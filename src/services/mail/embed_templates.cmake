# SPDX-License-Identifier: Apache-2.0
# cmake -DFOLDER=<templates> -DOUTPUT=<file.cpp> -P embed_templates.cmake: the default templates as C++ text.
set(source "// Written by embed_templates.cmake.\n#include \"services/mail/mail_templates.hpp\"\n\nnamespace flexi::services::mail {\n\n")
foreach(pair "kDefaultHtmlTemplate mail.html" "kDefaultPlainTemplate mail.txt")
  separate_arguments(pair)
  list(GET pair 0 name)
  list(GET pair 1 file)
  file(READ ${FOLDER}/${file} text)
  string(APPEND source "const std::string_view ${name} = R\"template~(${text})template~\";\n")
endforeach()
string(APPEND source "\n}  // namespace flexi::services::mail\n")
file(WRITE ${OUTPUT} "${source}")
