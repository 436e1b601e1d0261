# What the gateway adds to jq, as plain jq where it can be, so that a map runs at a desk too:
#   jq -L connectors/lib 'include "omnigate"; …' or cat lib/omnigate.jq map.jq > /tmp/m.jq && jq -f /tmp/m.jq payload.json
# In the gateway these are native functions; a map needs no include there.
