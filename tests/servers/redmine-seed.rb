# The REST API, an administrator's key, a project with issues, a custom field for our ids.
Setting.rest_api_enabled = 1
token = Token.new(user: User.find_by_login('admin'), action: 'api')
token.save!
token.update_column(:value, 'a' * 40)
Project.create!(name: 'Support', identifier: 'support', is_public: true, enabled_module_names: %w[issue_tracking], trackers: Tracker.all)
IssueCustomField.create!(name: 'Conversation ID', field_format: 'string', is_filter: true, is_for_all: true, searchable: true, trackers: Tracker.all)
