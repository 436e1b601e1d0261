# A form. Urlencoded and multipart bodies come as {fields, list, files}, JSON as it is.

def decoded: (.list | isarray) and (.fields | isobject) and (.files | isarray);

def plain: if . == null then null elif isstring then . elif isarray or isobject then tojson else tostring end
  | values | gsub("^\\s+|\\s+$"; "") | if . == "" then null else . end;

# The value of a field by our name of it.
def field($form; $name): first($form[$settings.fields[$name] // $name] | plain) // null;

# Fields that are neither ours by name nor technical.
def others($form): [$settings.fields[], "name", "email", "phone", "subject", "message", $settings.honeypot, $settings.nonce, $settings.leave_out[]] as $known
  | $form | with_entries(select(.key as $key | $known | index($key) | not) | {key, value: (first(.value | plain) // null)});

def sender($form): field($form; "email") as $email | field($form; "phone") as $phone
  | ($email | email_addr) as $address | ($phone | phone_e164) as $number
  | if $address then {address: "email:\($address)"} elif $number then {address: "tel:\($number)"} else null end
  | if . then . + {name: field($form; "name")} else null end;

def submission($form; $files): others($form) as $others | {
  kind: "message",
  key: (first($form[$settings.nonce] | plain | values | ["nonce", .]) // null),
  from: sender($form),
  subject: field($form; "subject"),
  text: (field($form; "message") // ($form | [to_entries[] | select(.value | isstring) | "\(.key): \(.value)"] | join("\n"))),
  attachments: [$files[] | {file: .index, name, type, bytes}],
  direct: true,
  extra: {fields: (if $others == {} then null else $others end), phone: field($form; "phone"),
    name: (if sender($form) then null else field($form; "name") end)}
};

if isobject | not then ignored("not_a_form")
else (if decoded then {form: .fields, files} else {form: ., files: []} end)
  | .files as $files | .form as $form
  | if ($form[$settings.honeypot] // "") != "" then ignored("honeypot")
    elif $form == {} and $files == [] then ignored("empty")
    else submission($form; $files) end
end
