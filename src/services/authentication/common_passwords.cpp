// SPDX-License-Identifier: Apache-2.0
// Which passwords are tried first. Words alone: digits and signs around them, or in place of their letters, change nothing.
#include <algorithm>
#include <iterator>
#include <string>

#include "services/authentication/password_policy.hpp"

namespace flexi::services::authentication {

namespace {

constexpr std::string_view kWords[] = {
    "abc", "abcd", "abcde", "abcdef", "abcdefg", "abcdefgh", "access", "account", "admin", "adminadmin", "administrator", "adminpassword",
    "alexander", "alexandra", "alexis", "amanda", "america", "anderson", "andrea", "andrew", "angel", "angela", "angels", "animal", "anthony",
    "apple", "april", "arsenal", "asdf", "asdfasdf", "asdfgh", "asdfghjkl", "ashley", "august", "austin", "azerty", "azertyuiop", "babygirl",
    "backup", "badboy", "banana", "barbara", "barcelona", "baseball", "basketball", "batman", "beautiful", "benjamin", "berlin", "bigdaddy",
    "bigdick", "bigdog", "blahblah", "blessed", "blink", "bonjour", "booboo", "bradley", "brandon", "brooklyn", "bubbles", "buster", "butterfly",
    "california", "cameron", "canada", "carlos", "caroline", "celtic", "changeit", "changeme", "changethis", "charlie", "charlotte", "cheese",
    "chelsea", "chester", "chicago", "chicken", "chocolate", "chris", "christ", "christian", "christine", "christopher", "cocacola", "coffee",
    "company", "compaq", "computer", "cookie", "cooper", "corvette", "cowboys", "creative", "crystal", "dallas", "daniel", "danielle", "database",
    "december", "default", "demo", "diamond", "dolphin", "dolphins", "donald", "dragon", "dragonball", "eagles", "einstein", "elephant",
    "elizabeth", "eminem", "enter", "everton", "example", "facebook", "family", "february", "ferrari", "fireball", "firebird", "fishing", "flower",
    "flowers", "football", "forever", "freedom", "friday", "friend", "friends", "fuckoff", "fuckyou", "gandalf", "garfield", "gateway", "george",
    "germany", "ginger", "godisgood", "goldfish", "goodluck", "google", "guest", "guitar", "gunner", "hallo", "hammer", "handball", "hannah",
    "harley", "harleydavidson", "harrypotter", "heather", "hello", "hellohello", "hellokitty", "helloworld", "hockey", "hollywood", "home",
    "hunter", "iceman", "idontknow", "iloveu", "iloveyou", "incorrect", "internet", "ireland", "isabella", "jackson", "jamesbond", "january",
    "jasmine", "jason", "jennifer", "jeremy", "jessica", "jesus", "jesuschrist", "johnny", "johnson", "jonathan", "jordan", "joseph", "joshua",
    "juventus", "katherine", "killer", "kimberly", "kingkong", "klaster", "lakers", "lauren", "letmein", "letmeinnow", "lifehack", "liverpool",
    "login", "london", "lovelove", "lovely", "loveme", "lover", "loveyou", "lucky", "madison", "maggie", "manager", "manchester", "marina",
    "marlboro", "martin", "master", "matrix", "matthew", "maverick", "melissa", "mercedes", "merlin", "metallica", "michael", "michelle", "mickey",
    "microsoft", "midnight", "monday", "money", "monica", "monkey", "monster", "morgan", "mother", "motorola", "mustang", "mypassword", "myspace",
    "natasha", "newpassword", "newyork", "nicholas", "nicole", "nintendo", "nirvana", "nopassword", "nothing", "november", "october", "office",
    "oliver", "orange", "pakistan", "panther", "parola", "pass", "passpass", "passphrase", "passw", "passwd", "password", "passwordpassword",
    "passwort", "patrick", "peanut", "pepper", "phoenix", "pokemon", "porsche", "portugal", "postgres", "precious", "princess", "private", "purple",
    "pussycat", "qazwsx", "qazwsxedc", "qwer", "qwert", "qwerty", "qwertyqwerty", "qwertyui", "qwertyuiop", "qwertz", "qwertzuiop", "rabbit",
    "rabbitmq", "rachel", "raiders", "rainbow", "ranger", "rangers", "realmadrid", "rebecca", "redsox", "richard", "robert", "rockstar", "root",
    "rootroot", "rosebud", "samantha", "samsung", "sandra", "saturday", "scooby", "scooter", "scorpion", "secret", "secretpassword", "september",
    "server", "service", "shadow", "shannon", "shopping", "sierra", "silver", "simple", "skywalker", "slayer", "slipknot", "smokey", "snoopy",
    "snowball", "soccer", "somethin", "something", "sophie", "sparky", "spiderman", "spring", "startrek", "starwars", "steelers", "stefan",
    "stephanie", "steven", "strawberry", "student", "summer", "sunday", "sunflower", "sunshine", "superman", "superstar", "support", "swordfish",
    "sysadmin", "system", "taylor", "teacher", "temp", "temporary", "temppass", "tennis", "test", "tester", "testing", "testpassword", "testtest",
    "testuser", "thomas", "thunder", "thursday", "tiffany", "tiger", "tigers", "tigger", "tinkerbell", "topsecret", "trustno", "tuesday", "tweety",
    "unknown", "user", "username", "valentina", "vanessa", "victoria", "victory", "vincent", "volleyball", "warcraft", "warrior", "webmaster",
    "wednesday", "welcome", "welcomeback", "westside", "whatever", "william", "williams", "windows", "winner", "winston", "winter", "wolverine",
    "yankees", "yellow", "zaqwsx", "zaqxsw", "zxcvbn", "zxcvbnm"};

constexpr std::string_view kRows[] = {"01234567890123456789", "abcdefghijklmnopqrstuvwxyz", "qwertyuiopasdfghjklzxcvbnm", "qwertzuiopasdfghjklyxcvbnm",
                                      "azertyuiopqsdfghjklmwxcvbn", "1q2w3e4r5t6y7u8i9o0p", "1qaz2wsx3edc4rfv5tgb6yhn7ujm", "q1w2e3r4t5y6u7i8o9p0"};

static_assert(std::is_sorted(std::begin(kWords), std::end(kWords)), "they are searched by halves");

char letter_of(char c) {
  switch (c) {
    case '0': return 'o';
    case '1':
    case '!':
    case '|': return 'i';
    case '3': return 'e';
    case '4':
    case '@': return 'a';
    case '5':
    case '$': return 's';
    case '7': return 't';
    default: return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  }
}

std::string read_signs(std::string_view text) {
  std::string out;
  for (char c : text) out += letter_of(c);
  return out;
}

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || static_cast<unsigned char>(c) >= 0x80; }

std::string lower(std::string_view text) {
  std::string out(text);
  for (auto& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return out;
}

/// "dragon" of "...Dragon2024!": what stands between the digits and signs at both ends.
std::string_view core_of(std::string_view text) {
  while (!text.empty() && !is_letter(text.front())) text.remove_prefix(1);
  while (!text.empty() && !is_letter(text.back())) text.remove_suffix(1);
  return text;
}

bool is_word(std::string_view text) {
  return std::binary_search(std::begin(kWords), std::end(kWords), text);
}

/// The same piece of at most a third again and again: "aaaaaaaa", "abcabcabc"; and any single piece of up to four twice.
bool repeats(std::string_view text) {
  for (std::size_t piece = 1; piece <= std::max<std::size_t>(text.size() / 3, std::min<std::size_t>(text.size() / 2, 4)); ++piece) {
    bool same = true;
    for (std::size_t i = piece; i < text.size() && same; ++i) same = text[i] == text[i - piece];
    if (same) return true;
  }
  return false;
}

bool is_walk(std::string_view text) {
  const std::string back(text.rbegin(), text.rend());
  return std::any_of(std::begin(kRows), std::end(kRows), [&](std::string_view row) { return row.find(text) != row.npos || row.find(back) != row.npos; });
}

}  // namespace

bool is_common_password(std::string_view password) {
  const auto plain = lower(password);
  if (repeats(plain) || is_walk(plain)) return true;
  const auto core = core_of(plain);
  if (is_word(core)) return true;
  // Signs for letters, in the middle or at an end: "p@ssw0rd", "1loveyou", "pa$$".
  if (is_word(read_signs(plain)) || is_word(read_signs(core))) return true;
  return core.size() >= 4 && core.size() + 4 >= plain.size() && is_walk(core);  // "asdfghjkl12"
}

}  // namespace flexi::services::authentication
